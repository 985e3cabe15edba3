# One copy less than a majority is called enough.
def commit_index(leader):
    copies = sorted((leader.stored[voter] for voter in leader.voters), reverse=True)
    index = copies[max(0, len(copies) // 2 - 1)]
    if index > leader.commit_index and leader.term_at(index) == leader.term:
        return index
    return leader.commit_index
