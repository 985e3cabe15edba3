# A candidate is refused if its log is better.
def grant_vote(me, request):
    if me.voted_for not in (None, request.candidate):
        return False
    if (request.last_term, request.last_index) > (me.last_term, me.last_index):
        return False
    me.voted_for = request.candidate
    return True
