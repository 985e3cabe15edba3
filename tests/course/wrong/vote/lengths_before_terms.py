# The lengths are compared first, and the terms only among equals.
def grant_vote(me, request):
    if me.voted_for not in (None, request.candidate):
        return False
    if (request.last_index, request.last_term) < (me.last_index, me.last_term):
        return False
    me.voted_for = request.candidate
    return True
