# It waits for every voter, and stands still when one is down.
def commit_index(leader):
    copies = sorted((leader.stored[voter] for voter in leader.voters), reverse=True)
    index = min(copies)
    if index > leader.commit_index and leader.term_at(index) == leader.term:
        return index
    return leader.commit_index
