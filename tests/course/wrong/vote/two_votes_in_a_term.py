# The rule does not look whether the vote of this term is gone.
def grant_vote(me, request):
    if (request.last_term, request.last_index) < (me.last_term, me.last_index):
        return False
    me.voted_for = request.candidate
    return True
