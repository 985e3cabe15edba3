# The last term is compared, and the length is not.
def grant_vote(me, request):
    if me.voted_for not in (None, request.candidate):
        return False
    if request.last_term < me.last_term:
        return False
    me.voted_for = request.candidate
    return True
