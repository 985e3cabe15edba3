# The longer log is taken for the better one, whatever its last term is.
def grant_vote(me, request):
    if me.voted_for not in (None, request.candidate):
        return False
    if request.last_index < me.last_index:
        return False
    me.voted_for = request.candidate
    return True
