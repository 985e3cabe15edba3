# It forgets what was committed before.
def commit_index(leader):
    copies = sorted((leader.stored[voter] for voter in leader.voters), reverse=True)
    index = copies[len(copies) // 2]
    return index if leader.term_at(index) == leader.term else 0
