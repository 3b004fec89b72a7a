"""Judges what several mounts did at once, from what each worker noted: nothing here knows massfs.

Times are of one monotonic clock. Operations are (start, end, ...) of calls that succeeded; those that failed changed nothing.
"""


def linear(ops, final, limit=200000):
    """Is there an order of one file's changes that explains them all, and the end?

    ops: (start, end, kind, at, to): create at; move at -> to; unlink at. A name's file is made once. final: where it is at the end,
    None: nowhere. An operation that ended before another began comes before it. Returns the order, or None.
    """
    ops = sorted(ops)
    n = len(ops)
    seen = set()
    budget = [limit]

    def step(op, state):
        _, _, kind, at, to = op
        if kind == "create":
            return to if state is None else "no"
        if state is None or state != at:
            return "no"
        return to if kind == "move" else None

    def search(done, state, order):
        if len(order) == n:
            return order if state == final else None
        if (done, state) in seen:
            return None
        seen.add((done, state))
        budget[0] -= 1
        if budget[0] < 0:
            raise RuntimeError("too many orders to look at: make the histories shorter")
        earliest = min(ops[k][1] for k in range(n) if not done >> k & 1)
        for k in range(n):
            if done >> k & 1:
                continue
            if ops[k][0] > earliest:
                break  # sorted by start: all that follow began after one that is not yet done had ended
            after = step(ops[k], state)
            if after == "no":
                continue
            found = search(done | 1 << k, after, order + [ops[k]])
            if found is not None:
                return found
        return None

    return search(0, None, [])


def stale_reads(writes, reads, bound):
    """Close-to-open: what was closed `bound` before an open is what the open sees, or something newer.

    writes: {token: (start, end)} of one file; reads: [(start of open, end, token)], token None: the state before all writes.
    Returns the reads that saw what had been replaced for longer, or what nobody had begun to write.
    """
    bad = []
    by_end = sorted(writes.values(), key=lambda w: w[1])
    for start, end, token in reads:
        if token is not None and token not in writes:
            bad.append((start, end, token, "nobody wrote this"))
            continue
        mine = writes[token] if token is not None else (float("-inf"), float("-inf"))
        if mine[0] > end:
            bad.append((start, end, token, "read before it was written"))
            continue
        for w in by_end:
            if w[1] + bound >= start:
                break
            if w[0] > mine[1]:
                bad.append((start, end, token, f"replaced {start - w[1]:.3f} s before the open"))
                break
    return bad
