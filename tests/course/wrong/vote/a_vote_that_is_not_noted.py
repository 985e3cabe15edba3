# The vote is given and not written down: the next candidate gets one, too.
def grant_vote(me, request):
    if me.voted_for not in (None, request.candidate):
        return False
    if (request.last_term, request.last_index) < (me.last_term, me.last_index):
        return False
    return True
