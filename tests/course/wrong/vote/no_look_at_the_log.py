# A candidate that lacks what is committed may win.
def grant_vote(me, request):
    if me.voted_for not in (None, request.candidate):
        return False
    me.voted_for = request.candidate
    return True
