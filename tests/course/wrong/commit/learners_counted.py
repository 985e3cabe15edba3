# All copies count, also those of learners, which have no vote.
def commit_index(leader):
    copies = sorted(leader.stored.values(), reverse=True)
    index = copies[len(copies) // 2]
    if index > leader.commit_index and leader.term_at(index) == leader.term:
        return index
    return leader.commit_index
