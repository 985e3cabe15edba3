# The leader stands among the copies, and is counted once more.
def commit_index(leader):
    copies = [leader.stored[voter] for voter in leader.voters]
    copies = sorted([leader.stored[leader.node], *copies], reverse=True)
    index = copies[len(copies) // 2]
    if index > leader.commit_index and leader.term_at(index) == leader.term:
        return index
    return leader.commit_index
