import { describe, expect, it } from 'vitest'
import { WebhookError } from '../../src/model/errors.ts'
import type { CommitGroup, CommitResult } from '../../src/storage/commit-records.ts'
import { GroupCommit } from '../../src/storage/group-commit.ts'
import type { Store } from '../../src/storage/storage.ts'
import { manualClock } from '../../src/testing/manual-clock.ts'
import { pendingAccept, releaseRecord, settled, settlementRecord } from './fakes.ts'

interface Call {
  readonly group: CommitGroup
  succeed(): void
  fail(error: Error): void
}

const full = () => new WebhookError('STORAGE_FULL', 'no room')
const unknown = () => new WebhookError('STORAGE_UNAVAILABLE', 'the answer was lost')

/** A group commit on a store whose every commit is answered by hand. */
function setUp(gatherMs = 0, commitsInOrder = false) {
  const state = { isSending: true, setBackMs: 0 }
  const clock = manualClock(0)
  const calls: Call[] = []
  const logs: string[] = []
  const store = {
    gatherMs,
    commitsInOrder,
    commit: (group: CommitGroup) =>
      new Promise<CommitResult>((resolve, reject) => {
        calls.push({
          group,
          succeed: () =>
            resolve({
              accepts: group.accepts.map(() => ({ kind: 'stored' })),
              settlements: group.settlements.map(() => 'written'),
            }),
          fail: reject,
        })
      }),
  } as unknown as Store
  const commits = new GroupCommit(store, {
    clock: { ...clock, nowMs: () => clock.nowMs() - state.setBackMs },
    random: () => 0.5,
    log: (level, message) => logs.push(`${level}: ${message}`),
    isSending: () => state.isSending,
    relieved: () => {},
    failed: () => {},
    cancelled: () => {},
  })
  /** What the n-th commit carried. */
  const carried = (n: number) => {
    const group = calls[n]?.group
    return [
      ...(group?.accepts ?? []).map((one) => one.event.id),
      ...(group?.settlements ?? []).map((one) => one.deliveryId),
      ...(group?.releases ?? []).map((one) => one.deliveryId),
    ].join(' ')
  }
  return { clock, calls, commits, carried, logs, state }
}

/** Answers every commit by a rule, at once. */
function setUpWith(answer: (group: CommitGroup) => Error | null) {
  const clock = manualClock(0)
  const commits = new GroupCommit(
    {
      commit: (group: CommitGroup) => {
        const error = answer(group)
        if (error !== null) return Promise.reject(error)
        return Promise.resolve({
          accepts: group.accepts.map(() => ({ kind: 'stored' })),
          settlements: group.settlements.map(() => 'written'),
        })
      },
    } as unknown as Store,
    {
      clock,
      random: () => 0.5,
      log: () => {},
      isSending: () => false,
      relieved: () => {},
      failed: () => {},
      cancelled: () => {},
    },
  )
  return { clock, commits }
}

describe('natural batching', () => {
  it('lets everything that arrives during a commit join the next one', async () => {
    const { calls, commits, carried } = setUp()
    const first = pendingAccept('e1')
    commits.accept(first)
    await settled()
    commits.accept(pendingAccept('e2'))
    commits.settle(settlementRecord('d1'), () => {})
    commits.release(releaseRecord('d2'))
    commits.accept(pendingAccept('e3'))
    await settled()
    expect(calls).toHaveLength(1)
    calls[0]?.succeed()
    await settled()
    expect(first.answers).toEqual(['stored'])
    expect(calls).toHaveLength(2)
    expect(carried(1)).toBe('e2 e3 d1 d2')
  })

  it('takes what one turn of the program dispatches in one commit', async () => {
    const { calls, commits, carried } = setUp()
    for (const id of ['e1', 'e2', 'e3']) commits.accept(pendingAccept(id))
    await settled()
    expect(carried(0)).toBe('e1 e2 e3')
    expect(calls).toHaveLength(1)
  })

  it('peers 1: answers nobody before the commit is done', async () => {
    const { calls, commits } = setUp()
    const accept = pendingAccept('e1')
    commits.accept(accept)
    await settled()
    expect(accept.answers).toEqual([])
    calls[0]?.succeed()
    await settled()
    expect(accept.answers).toEqual(['stored'])
  })

  it('correctness 16: keeps a transaction within 5,000 deliveries', async () => {
    const { calls, commits, carried } = setUp()
    for (let i = 0; i < 6; i += 1) commits.accept(pendingAccept(`e${i}`, 0, 1_250))
    await settled()
    expect(carried(0)).toBe('e0 e1 e2 e3')
    calls[0]?.succeed()
    await settled()
    expect(carried(1)).toBe('e4 e5')
  })

  it('takes a single accept however heavy it is', async () => {
    const { commits, carried } = setUp()
    commits.accept(pendingAccept('e1', 0, 20_000))
    await settled()
    expect(carried(0)).toBe('e1')
  })

  it('tells outcomes before it hands new deliveries over', async () => {
    const { calls, commits } = setUp()
    const order: string[] = []
    commits.accept({ ...pendingAccept('e1'), committed: () => order.push('accepted') })
    commits.settle(settlementRecord('d1'), () => order.push('settled'))
    await settled()
    calls[0]?.succeed()
    await settled()
    expect(order).toEqual(['settled', 'accepted'])
  })
})

describe('new events that fill a commit by themselves', () => {
  const load = (id: string) => pendingAccept(id, 0, 5_000)

  /** One commit runs, and a full load came after it. */
  async function withOneAhead() {
    const all = setUp(0, true)
    const first = pendingAccept('e1')
    all.commits.accept(first)
    await settled()
    const second = load('e2')
    all.commits.accept(second)
    await settled()
    return { ...all, first, second }
  }

  it('are handed over while another commit runs, one load at a time', async () => {
    const { calls, commits, carried, first, second } = await withOneAhead()
    expect(carried(1)).toBe('e2')
    commits.accept(load('e3'))
    await settled()
    expect(calls).toHaveLength(2)
    calls[0]?.succeed()
    await settled()
    expect(first.answers).toEqual(['stored'])
    expect(second.answers).toEqual([])
    expect(carried(2)).toBe('e3')
    calls[1]?.succeed()
    await settled()
    expect(second.answers).toEqual(['stored'])
  })

  it('wait like others where the store may write them in another order', async () => {
    const { calls, commits } = setUp(0, false)
    commits.accept(pendingAccept('e1'))
    await settled()
    commits.accept(load('e2'))
    await settled()
    expect(calls).toHaveLength(1)
  })

  it('wait while several tenants share the commits, and for more when they are few', async () => {
    const { calls, commits } = setUp(0, true)
    commits.accept(pendingAccept('e1'))
    await settled()
    commits.accept(pendingAccept('e2', 0, 4_999))
    await settled()
    expect(calls).toHaveLength(1)
    const other = pendingAccept('e3')
    const { event } = other.record
    commits.accept({ ...other, record: { ...other.record, event: { ...event, tenantId: 't' } } })
    commits.accept(load('e4'))
    await settled()
    expect(calls).toHaveLength(1)
  })

  it('take no outcome with them', async () => {
    const { calls, commits, carried } = await withOneAhead()
    commits.settle(settlementRecord('d1'), () => {})
    commits.release(releaseRecord('d2'))
    await settled()
    calls[1]?.succeed()
    await settled()
    expect(calls).toHaveLength(2)
    calls[0]?.succeed()
    await settled()
    expect(carried(2)).toBe('d1 d2')
  })

  it('fail alone, and none goes ahead until a commit succeeds again', async () => {
    const { calls, commits, first, second } = await withOneAhead()
    calls[1]?.fail(full())
    await settled()
    expect(second.answers).toEqual(['failed STORAGE_FULL'])
    commits.accept(load('e3'))
    await settled()
    expect(calls).toHaveLength(2)
    calls[0]?.succeed()
    await settled()
    expect(first.answers).toEqual(['stored'])
    expect(calls).toHaveLength(3)
    commits.accept(load('e4'))
    await settled()
    expect(calls).toHaveLength(4)
  })

  it('are waited for by who waits until nothing is left, and answered late like others', async () => {
    const { clock, calls, commits, second } = await withOneAhead()
    let isIdle = false
    commits.idle().then(() => {
      isIdle = true
    })
    calls[0]?.succeed()
    await settled()
    expect(isIdle).toBe(false)
    clock.advance(10_000)
    await settled()
    expect(second.answers).toEqual(['expired STORAGE_UNAVAILABLE'])
    calls[1]?.succeed()
    await settled()
    expect(isIdle).toBe(true)
  })
})

describe('outcomes of a store whose commits are dear', () => {
  /** One outcome is written, and the next one has to wait for others. */
  async function withOneWritten() {
    const all = setUp(25)
    all.commits.settle(settlementRecord('d1'), () => {})
    await settled()
    expect(all.carried(0)).toBe('d1')
    all.calls[0]?.succeed()
    await settled()
    return all
  }

  it('wait for others while requests are under way, and not for long', async () => {
    const { clock, calls, commits, carried } = await withOneWritten()
    clock.advance(5)
    commits.settle(settlementRecord('d2'), () => {})
    await settled()
    clock.advance(15)
    commits.settle(settlementRecord('d3'), () => {})
    await settled()
    expect(calls).toHaveLength(1)
    clock.advance(5)
    await settled()
    expect(carried(1)).toBe('d2 d3')
  })

  it('let new events go ahead', async () => {
    const { commits, carried } = await withOneWritten()
    commits.settle(settlementRecord('d2'), () => {})
    commits.accept(pendingAccept('e1'))
    await settled()
    expect(carried(1)).toBe('e1')
  })

  it('wait for nobody where nothing is under way', async () => {
    const { commits, carried, state } = await withOneWritten()
    state.isSending = false
    commits.settle(settlementRecord('d2'), () => {})
    await settled()
    expect(carried(1)).toBe('d2')
  })

  it('are written with the last request under way', async () => {
    const { commits, calls, carried, state } = await withOneWritten()
    commits.settle(settlementRecord('d2'), () => {})
    await settled()
    expect(calls).toHaveLength(1)
    state.isSending = false
    commits.settle(settlementRecord('d3'), () => {})
    await settled()
    expect(carried(1)).toBe('d2 d3')
  })

  it('are written at once when they are many', async () => {
    const { commits, calls } = await withOneWritten()
    for (let i = 0; i < 500; i += 1) commits.settle(settlementRecord(`m${i}`), () => {})
    await settled()
    expect(calls[1]?.group.settlements).toHaveLength(500)
  })

  it('are written at once when something follows from one of them', async () => {
    const hold = { kind: 'hold', untilMs: 1_000 } as const
    const plain = settlementRecord('d2')
    for (const record of [
      { ...plain, settlement: { ...plain.settlement, effect: hold } },
      { ...plain, ordered: true },
    ]) {
      const { commits, carried } = await withOneWritten()
      commits.settle(record, () => {})
      await settled()
      expect(carried(1)).toBe('d2')
    }
  })

  it('are written at once for who waits for them', async () => {
    const { commits, carried } = await withOneWritten()
    commits.settle(settlementRecord('d2'), () => {})
    await settled()
    void commits.written()
    await settled()
    expect(carried(1)).toBe('d2')
  })

  it('do not wait longer when the clock is set back', async () => {
    const { commits, carried, state } = await withOneWritten()
    state.setBackMs = 3_600_000
    commits.settle(settlementRecord('d2'), () => {})
    await settled()
    expect(carried(1)).toBe('d2')
  })
})

describe('a row that the database refuses', () => {
  it('correctness 1: fails alone; its 199 neighbours are stored', async () => {
    const bad = 'e77'
    const { commits } = setUpWith((group) =>
      group.accepts.some((one) => one.event.id === bad) ? new Error('constraint failed') : null,
    )
    const accepts = Array.from({ length: 200 }, (_, i) => pendingAccept(`e${i}`))
    for (const accept of accepts) commits.accept(accept)
    await commits.idle()
    const failed = accepts.filter((one) => one.answers[0] !== 'stored')
    expect(failed.map((one) => [one.record.event.id, one.answers])).toEqual([
      [bad, ['failed constraint failed']],
    ])
  })

  it('takes nothing of its group with it: outcomes and given-back claims are written', async () => {
    const written: string[] = []
    const { commits } = setUpWith((group) => {
      if (group.accepts.length > 0) return new Error('constraint failed')
      written.push(...group.settlements.map((one) => one.deliveryId))
      written.push(...group.releases.map((one) => one.deliveryId))
      return null
    })
    commits.accept(pendingAccept('e1'))
    commits.release(releaseRecord('d1'))
    commits.release(releaseRecord('d2'))
    commits.settle(settlementRecord('d3'), () => {})
    await commits.idle()
    expect(written.sort()).toEqual(['d1', 'd2', 'd3'])
  })

  it('keeps neighbours of a given-back claim that is refused', async () => {
    const written: string[] = []
    const { commits } = setUpWith((group) => {
      if (group.releases.some((one) => one.deliveryId === 'd2')) return new Error('constraint')
      written.push(...group.releases.map((one) => one.deliveryId))
      return null
    })
    for (const id of ['d1', 'd2', 'd3']) commits.release(releaseRecord(id))
    await commits.idle()
    expect(written.sort()).toEqual(['d1', 'd3'])
  })

  it('correctness 1: loses its text, never its outcome', async () => {
    const { commits } = setUpWith((group) =>
      group.settlements.some((one) => one.attempt.responseBody !== null)
        ? new Error('a NUL byte in a text')
        : null,
    )
    const results: string[] = []
    commits.settle(
      settlementRecord('d1', { error: 'HTTP 500', responseBody: Buffer.from([0]) }),
      (result) => results.push(result),
    )
    commits.settle(settlementRecord('d2'), (result) => results.push(result))
    await commits.idle()
    expect(results.sort()).toEqual(['written', 'written'])
  })

  it('that has no text to lose is given up and told as late', async () => {
    const { commits } = setUpWith(() => new Error('constraint failed'))
    const results: string[] = []
    commits.settle(settlementRecord('d1'), (result) => results.push(result))
    await commits.idle()
    expect(results).toEqual(['late'])
  })
})

describe('a commit whose answer was lost', () => {
  it('correctness R3: is repeated, the same group again, until it is answered', async () => {
    const { clock, calls, commits, carried } = setUp()
    const accept = pendingAccept('e1')
    commits.accept(accept)
    await settled()
    calls[0]?.fail(unknown())
    await settled()
    expect(accept.answers).toEqual([])
    commits.accept(pendingAccept('e2'))
    clock.advance(200)
    await settled()
    expect(carried(1)).toBe('e1')
    expect(calls[1]?.group).toEqual(calls[0]?.group)
    calls[1]?.succeed()
    await settled()
    expect(accept.answers).toEqual(['stored'])
    expect(carried(2)).toBe('e2')
  })

  it('correctness R3: has its callers told after 5 s, and is repeated until it is known', async () => {
    const { clock, calls, commits, carried } = setUp()
    const accept = pendingAccept('e1')
    const results: string[] = []
    commits.accept(accept)
    commits.settle(settlementRecord('d1'), (result) => results.push(result))
    await settled()
    for (let n = 0; n < 20; n += 1) {
      // The second answer alone must not be taken for "nothing is written".
      calls.at(-1)?.fail(n % 2 === 0 ? unknown() : full())
      await settled()
      if (clock.nowMs() < 5_000) expect(accept.answers).toEqual([])
      clock.set(clock.nextTimerAtMs ?? 0)
      await settled()
    }
    expect(accept.answers).toEqual(['expired STORAGE_UNAVAILABLE'])
    expect(new Set(calls.map((_, n) => carried(n)))).toEqual(new Set(['e1 d1']))
    // It had been written all the time: what it brought is handed over to be sent.
    calls.at(-1)?.succeed()
    await settled()
    expect(accept.answers).toEqual(['expired STORAGE_UNAVAILABLE', 'stored'])
    expect(results).toEqual(['written'])
    expect(commits.isIdle).toBe(true)
    expect(clock.nextTimerAtMs).toBeNull()
  })

  it('is let go when the store is closed', async () => {
    const { clock, calls, commits } = setUp()
    commits.accept(pendingAccept('e1'))
    await settled()
    calls[0]?.fail(unknown())
    await settled()
    commits.fail(new WebhookError('SERVICE_CLOSED', 'closed'))
    await settled()
    expect(clock.nextTimerAtMs).toBeNull()
    expect(calls).toHaveLength(1)
  })
})

describe('a full disk', () => {
  it('rejects accepts and keeps outcomes until there is room', async () => {
    const { clock, calls, commits, carried, logs } = setUp()
    const accept = pendingAccept('e1')
    const results: string[] = []
    commits.accept(accept)
    commits.settle(settlementRecord('d1'), (result) => results.push(result))
    commits.release(releaseRecord('d2'))
    await settled()
    calls[0]?.fail(full())
    await settled()
    expect(accept.answers).toEqual(['failed STORAGE_FULL'])
    expect(commits.trouble).toMatchObject({ code: 'STORAGE_FULL' })
    expect(results).toEqual([])
    clock.advance(200)
    await settled()
    expect(carried(1)).toBe('d1 d2')
    calls[1]?.succeed()
    await settled()
    expect(results).toEqual(['written'])
    expect(commits.trouble).toBeNull()
    expect(logs).toEqual(['warn: the store takes no writes', 'info: the store takes writes again'])
  })

  it('does not make new accepts wait for the next try of the outcomes', async () => {
    const { calls, commits, carried } = setUp()
    commits.settle(settlementRecord('d1'), () => {})
    await settled()
    calls[0]?.fail(full())
    await settled()
    const accept = pendingAccept('e1')
    commits.accept(accept)
    await settled()
    expect(carried(1)).toBe('e1')
    calls[1]?.succeed()
    await settled()
    expect(accept.answers).toEqual(['stored'])
    // There is room again: the outcomes need not wait for their pause to end.
    expect(carried(2)).toBe('d1')
  })

  it('is trouble, and told once, also when only accepts meet it', async () => {
    const { calls, commits, logs } = setUp()
    for (let n = 0; n < 5; n += 1) {
      commits.accept(pendingAccept(`e${n}`))
      await settled()
      calls[n]?.fail(full())
      await settled()
    }
    expect(commits.trouble).toMatchObject({ code: 'STORAGE_FULL' })
    expect(logs).toEqual(['warn: the store takes no writes'])
  })

  it('tries again at growing intervals of at most 1 s', async () => {
    const { clock, calls, commits } = setUp()
    commits.settle(settlementRecord('d1'), () => {})
    await settled()
    const waits: number[] = []
    for (let n = 0; n < 9; n += 1) {
      calls.at(-1)?.fail(full())
      await settled()
      const nextMs = clock.nextTimerAtMs ?? 0
      waits.push(nextMs - clock.nowMs())
      clock.set(nextMs)
      await settled()
    }
    expect(waits).toEqual([75, 150, 300, 600, 750, 750, 750, 750, 750])
  })

  it('correctness 7: lets no new attempt start once 5,000 outcomes wait', async () => {
    const { calls, commits } = setUp()
    for (let n = 0; n < 5_001; n += 1) commits.settle(settlementRecord(`d${n}`), () => {})
    expect(commits.congested).toBe(true)
    await settled()
    expect(commits.congested).toBe(false)
    calls[0]?.fail(full())
    await settled()
    expect(commits.congested).toBe(true)
  })
})

describe('a disk that hangs', () => {
  it('correctness 7: is answered after 10 s, and what is stored in the end is handed over', async () => {
    const { clock, calls, commits } = setUp()
    const accept = pendingAccept('e1', clock.nowMs())
    commits.accept(accept)
    await settled()
    clock.advance(9_999)
    expect(accept.answers).toEqual([])
    clock.advance(1)
    expect(accept.answers).toEqual(['expired STORAGE_UNAVAILABLE'])
    calls[0]?.succeed()
    await settled()
    expect(accept.answers).toEqual(['expired STORAGE_UNAVAILABLE', 'stored'])
  })

  it('answers everybody after 10 s of their own, however long it hangs', async () => {
    const { clock, calls, commits } = setUp()
    const accepts = [pendingAccept('e0', clock.nowMs())]
    commits.accept(accepts[0]!)
    await settled()
    for (let n = 1; n <= 6; n += 1) {
      clock.advance(4_000)
      const accept = pendingAccept(`e${n}`, clock.nowMs())
      accepts.push(accept)
      commits.accept(accept)
    }
    // 24 s have passed: those of 0, 4, 8 and 12 s have waited for 10.
    expect(accepts.map((one) => one.answers[0] ?? 'waits')).toEqual([
      'expired STORAGE_UNAVAILABLE',
      ...Array(3).fill('failed STORAGE_UNAVAILABLE'),
      ...Array(3).fill('waits'),
    ])
    calls[0]?.succeed()
    await settled()
    // Whoever was told before its commit began is not stored behind its back.
    expect(calls[1]?.group.accepts.map((one) => one.event.id)).toEqual(['e4', 'e5', 'e6'])
  })

  it('leaves no timer behind when all is written', async () => {
    const { clock, calls, commits } = setUp()
    commits.accept(pendingAccept('e1'))
    await settled()
    calls[0]?.succeed()
    await settled()
    expect(clock.nextTimerAtMs).toBeNull()
  })
})

describe('waiting for what is written', () => {
  it('written() does not wait for what comes later', async () => {
    const { calls, commits, carried } = setUp()
    commits.accept(pendingAccept('e1'))
    await settled()
    commits.release(releaseRecord('d1'))
    let resolved = false
    void commits.written().then(() => {
      resolved = true
    })
    calls[0]?.succeed()
    await settled()
    expect(carried(1)).toBe('d1')
    expect(resolved).toBe(false)
    commits.accept(pendingAccept('e2'))
    calls[1]?.succeed()
    await settled()
    expect(resolved).toBe(true)
    expect(commits.isIdle).toBe(false)
  })

  it('written() waits for a running commit even when nothing follows it', async () => {
    const { calls, commits } = setUp()
    commits.settle(settlementRecord('d1'), () => {})
    await settled()
    let resolved = false
    void commits.written().then(() => {
      resolved = true
    })
    await settled()
    expect(resolved).toBe(false)
    calls[0]?.succeed()
    await settled()
    expect(resolved).toBe(true)
  })

  it('written() waits for the try that succeeds', async () => {
    const { clock, calls, commits } = setUp()
    commits.release(releaseRecord('d1'))
    let resolved = false
    void commits.written().then(() => {
      resolved = true
    })
    await settled()
    calls[0]?.fail(full())
    await settled()
    expect(resolved).toBe(false)
    clock.advance(200)
    await settled()
    calls[1]?.succeed()
    await settled()
    expect(resolved).toBe(true)
  })

  it('is over at once when the store is lost', async () => {
    const { calls, clock, commits } = setUp()
    const accept = pendingAccept('e1')
    commits.accept(accept)
    commits.settle(settlementRecord('d1'), () => {})
    await settled()
    const later = pendingAccept('e2')
    commits.accept(later)
    const waits = Promise.all([commits.idle(), commits.written()])
    const lost = new WebhookError('STORAGE_IO', 'the disk failed')
    calls[0]?.fail(lost)
    commits.fail(lost)
    await waits
    await settled()
    const tooLate = pendingAccept('e3')
    commits.accept(tooLate)
    expect([accept, later, tooLate].map((one) => one.answers)).toEqual(
      Array(3).fill(['failed STORAGE_IO']),
    )
    // Nothing is tried again, and nothing more is sent.
    expect(clock.nextTimerAtMs).toBeNull()
    expect(calls).toHaveLength(1)
    expect(commits.congested).toBe(true)
  })
})
