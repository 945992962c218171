import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { WebhookError } from '../../src/model/errors.ts'
import { freeFlow } from '../../src/model/flow.ts'
import { claimOf, endpointRecord, settled } from '../engine/fakes.ts'
import { numbers, setUp } from './stage.ts'

describe('turns', () => {
  it('lanes take turns, however much one of them has', () => {
    const { scheduler, add, admit, finish, sent } = setUp({ maxConcurrency: 1 })
    for (const lane of ['a', 'b', 'c']) add(lane)
    scheduler.start()
    for (const i of numbers(6)) admit('a', i)
    for (const i of numbers(2)) admit('b', i)
    for (const i of numbers(2)) admit('c', i)
    for (let i = 0; i < 20; i += 1) finish()
    expect(sent.map((id) => id[0]).join('')).toBe('aabcabcaaa')
  })

  it('a lane has no more requests under way than its concurrency', () => {
    const { scheduler, add, admit, finish, running, sent } = setUp()
    add('a', { concurrency: 2 })
    scheduler.start()
    for (const i of numbers(5)) admit('a', i)
    expect(running).toHaveLength(2)
    finish()
    expect(running).toHaveLength(2)
    finish(2)
    expect(sent).toEqual(numbers(5).map((i) => `a:${i}`))
  })

  it('a new limit is in force at once', () => {
    const { scheduler, add, admit, running, endpoints } = setUp()
    add('a', { concurrency: 1 })
    scheduler.start()
    for (const i of numbers(5)) admit('a', i)
    endpoints.set('a', endpointRecord('a', { concurrency: 3 }))
    scheduler.refresh('a')
    expect(running).toHaveLength(3)
  })

  it('correctness 4: nothing starts while outcomes pile up unrecorded', () => {
    const { scheduler, add, admit, congest, running } = setUp()
    add('a')
    scheduler.start()
    congest(true)
    admit('a', '1')
    expect(running).toHaveLength(0)
    congest(false)
    scheduler.pump()
    expect(running).toHaveLength(1)
  })
})

describe('reading back from the store', () => {
  it('asks when something is due, not before, and the first due first', async () => {
    const { scheduler, clock, add, store, asked, sent } = setUp()
    add('a')
    scheduler.start()
    store('a', 'late', 2_000)
    store('a', 'early', 1_000)
    expect(asked).toHaveLength(0)
    expect(scheduler.nextDueAtMs).toBe(1_000)
    clock.set(999)
    await settled()
    expect(asked).toHaveLength(0)
    clock.set(1_000)
    await settled()
    expect(sent).toEqual(['a:early'])
    expect(scheduler.nextDueAtMs).toBe(2_000)
    clock.set(2_000)
    await settled()
    expect(sent).toEqual(['a:early', 'a:late'])
    expect(scheduler.nextDueAtMs).toBe(Number.POSITIVE_INFINITY)
  })

  it('correctness 8: one timer waits, for the next due time of all lanes', async () => {
    const { scheduler, clock, add, store } = setUp()
    scheduler.start()
    for (const i of numbers(50)) {
      add(`l${i}`)
      store(`l${i}`, 'x', 1_000 + Number(i))
    }
    expect(clock.nextTimerAtMs).toBe(1_000)
    add('soon')
    store('soon', 'x', 500)
    expect(clock.nextTimerAtMs).toBe(500)
  })

  it('correctness 8: of a thousand due lanes asks for some at a time, and each gets its turn', async () => {
    const { scheduler, clock, add, store, asked, sent, finish, running } = setUp()
    scheduler.start()
    for (const i of numbers(1_000)) {
      add(`l${i}`)
      store(`l${i}`, 'x', 10)
    }
    clock.set(10)
    for (let i = 0; i < 50; i += 1) {
      await settled()
      finish(running.length)
    }
    expect(new Set(sent).size).toBe(1_000)
    expect(asked.every(({ rooms }) => rooms.length <= 128)).toBe(true)
    expect(
      asked.every(({ rooms }) => rooms.reduce((sum, room) => sum + room.limit, 0) <= 512),
    ).toBe(true)
  })

  it('what is stored while a claim is under way is not forgotten', async () => {
    const { scheduler, clock, add, store, asked, sent, holdAnswers } = setUp()
    add('a')
    scheduler.start()
    store('a', '1', 10)
    holdAnswers()
    clock.set(10)
    await settled()
    store('a', '2', 10)
    store('a', '3', 50)
    // The answer may or may not hold them; the store of this test answers now, so it does.
    asked[0]?.answer()
    await settled()
    for (let i = 1; i < 5; i += 1) {
      asked[i]?.answer()
      await settled()
    }
    clock.set(50)
    await settled()
    asked.at(-1)?.answer()
    await settled()
    expect([...sent].sort()).toEqual(['a:1', 'a:2', 'a:3'])
  })

  it('a lane that still has a question to ask is not forgotten, nor another for its sake', async () => {
    const { scheduler, add, admit, asked, clock, finish, holdAnswers, running } = setUp()
    const endpoint = add('a', { concurrency: 3 })
    scheduler.start()
    holdAnswers()
    // What was due has gone, and the question for the next fails.
    scheduler.stored('a', 0)
    scheduler.reread('a')
    asked[0]?.answer()
    await settled()
    asked[1]?.answer(new WebhookError('STORAGE_UNAVAILABLE', 'away'))
    await settled()
    scheduler.reserve(endpoint)
    scheduler.unreserve('a')
    for (const i of numbers(3)) admit('a', i)
    clock.advance(200)
    asked[2]?.answer()
    await settled()
    finish(2)
    for (const i of numbers(5)) admit('a', `later ${i}`)
    expect(running).toHaveLength(3)
    while (running.length > 0) finish()
    expect(scheduler.isDrained).toBe(true)
  })

  it('a new delivery does not overtake older ones that wait in the store', () => {
    const { scheduler, add, store, admit, holdAnswers } = setUp()
    add('a')
    scheduler.start()
    holdAnswers()
    store('a', 'old', 0)
    expect(admit('a', 'new')).toBe(false)
  })

  it('but does not wait for one that is due later', () => {
    const { scheduler, add, store, admit } = setUp()
    add('a')
    scheduler.start()
    store('a', 'retry', 60_000)
    expect(admit('a', 'new')).toBe(true)
  })

  it('asks again after rereadAll() when what was due has vanished', async () => {
    const { scheduler, add, store, left, asked } = setUp()
    add('a')
    scheduler.start()
    store('a', 'erased', 60_000)
    expect(scheduler.isDrained).toBe(false)
    left('a')
    scheduler.rereadAll()
    await settled()
    expect(asked).toHaveLength(1)
    expect(scheduler.nextDueAtMs).toBe(60_000)
  })
})

describe('a claim that fails', () => {
  const full = new WebhookError('STORAGE_FULL', 'no room')

  it('because of the store: nothing is asked for a moment, then all again', async () => {
    const { scheduler, clock, add, store, asked, sent, failures, holdAnswers } = setUp()
    add('a')
    add('b')
    scheduler.start()
    holdAnswers()
    store('a', '1', 10)
    store('b', '1', 10)
    clock.set(10)
    await settled()
    asked[0]?.answer(full)
    await settled()
    expect(failures).toEqual(['no room'])
    expect(asked).toHaveLength(1)
    clock.advance(200)
    await settled()
    asked[1]?.answer()
    await settled()
    expect([...sent].sort()).toEqual(['a:1', 'b:1'])
  })

  it('because of one lane: the others are sent, that one is tried now and then', async () => {
    const { scheduler, clock, add, store, asked, sent, holdAnswers } = setUp()
    for (const lane of ['a', 'bad', 'c']) add(lane)
    scheduler.start()
    holdAnswers()
    for (const lane of ['a', 'bad', 'c']) store(lane, '1', 10)
    clock.set(10)
    const corrupt = new WebhookError('STORAGE_CORRUPT', 'a body is missing')
    let next = 0
    const answerAll = async () => {
      await settled()
      for (; next < asked.length; next += 1) {
        const isBad = asked[next]?.rooms.some((room) => room.endpointKey === 'bad')
        asked[next]?.answer(isBad ? corrupt : undefined)
        await settled()
      }
    }
    await answerAll()
    expect([...sent].sort()).toEqual(['a:1', 'c:1'])
    expect(next).toBe(4)
    expect(scheduler.nextDueAtMs).toBe(5_010)
    store('a', '2', 20)
    clock.set(20)
    await answerAll()
    expect(sent).toContain('a:2')
    clock.set(5_010)
    await settled()
    asked[next]?.answer()
    await settled()
    expect(sent).toContain('bad:1')
  })
})

describe('memory', () => {
  it('a lane that hangs holds no more than its share, and the others go on', () => {
    const { scheduler, add, admit, running } = setUp({ memoryCapacity: 100 })
    scheduler.start()
    for (const i of numbers(20)) add(`dead${i}`)
    let held = 0
    for (const i of numbers(20)) {
      while (admit(`dead${i}`, `${held}`)) held += 1
    }
    expect(held).toBeLessThan(100 + 20 * 20)
    const stillRunning = running.length
    expect(stillRunning).toBeLessThanOrEqual(100)
    add('healthy')
    expect(admit('healthy', '1')).toBe(true)
  })

  it('correctness R1: a lane holds no more than its capacity', () => {
    const { scheduler, add, admit } = setUp({ laneCapacity: 7 })
    add('a', { concurrency: 1 })
    scheduler.start()
    expect(numbers(20).filter((i) => admit('a', i))).toHaveLength(1 + 7)
  })

  it('large bodies count by their size', () => {
    const { scheduler, add, admit } = setUp({ memoryBytes: 10_000 })
    add('a', { concurrency: 2 })
    scheduler.start()
    const kept = numbers(100).filter((i) => admit('a', i, 1_000)).length
    expect(kept).toBeLessThanOrEqual(2 + 10 + 2)
  })

  it('correctness R1: what does not fit is read back as the lane drains, completely', async () => {
    const { scheduler, clock, add, store, running, finish, sent, asked } = setUp({
      laneCapacity: 10,
    })
    add('a', { concurrency: 2 })
    scheduler.start()
    for (const i of numbers(200)) store('a', i, 1)
    clock.set(1)
    for (let i = 0; i < 300 && sent.length < 200; i += 1) {
      await settled()
      finish(running.length)
    }
    expect(new Set(sent).size).toBe(200)
    // Not one question per free place.
    expect(asked.length).toBeLessThan(60)
  })

  it('is given back when an endpoint is idle: ten thousand cost nothing', async () => {
    const { scheduler, add, admit, finish, running } = setUp({ maxConcurrency: 20_000 })
    scheduler.start()
    for (const i of numbers(2_000)) {
      add(`l${i}`)
      admit(`l${i}`, 'x')
    }
    finish(running.length)
    expect(scheduler.isDrained).toBe(true)
    expect(scheduler.active).toBe(0)
  })
})

describe('a hold', () => {
  it('gives back what is ready, sends nothing until it ends, then all', async () => {
    const { scheduler, clock, add, admit, finish, sent, released, asked } = setUp()
    add('a', { concurrency: 1 })
    scheduler.start()
    for (const i of numbers(4)) admit('a', i)
    scheduler.hold('a', 5_000)
    finish()
    expect(released).toEqual(['a:1', 'a:2', 'a:3'])
    expect(admit('a', 'new')).toBe(false)
    clock.set(4_999)
    await settled()
    expect(asked).toHaveLength(0)
    expect(sent).toEqual(['a:0'])
    clock.set(5_000)
    for (let i = 0; i < 5; i += 1) {
      await settled()
      finish()
    }
    expect(sent).toEqual(['a:0', 'a:1', 'a:2', 'a:3'])
  })

  it('is never shortened', () => {
    const { scheduler, add, store } = setUp()
    add('a')
    scheduler.start()
    scheduler.hold('a', 5_000)
    scheduler.hold('a', 1_000)
    store('a', 'x', 0)
    expect(scheduler.nextDueAtMs).toBe(5_000)
  })

  it('that is stored is kept, as after a restart', () => {
    const { scheduler, add, store, admit, flows } = setUp()
    add('a')
    flows.set('a', { ...freeFlow('a'), heldUntilMs: 7_000 })
    scheduler.start()
    expect(admit('a', '1')).toBe(false)
    store('a', 'x', 0)
    expect(scheduler.nextDueAtMs).toBe(7_000)
  })

  it('does not touch other lanes', () => {
    const { scheduler, add, admit } = setUp()
    add('a')
    add('b')
    scheduler.start()
    scheduler.hold('a', 5_000)
    expect(admit('b', '1')).toBe(true)
  })
})

describe('an endpoint that is paused, disabled or gone', () => {
  it('paused: what is ready goes back, and comes again when it resumes', async () => {
    const { scheduler, add, admit, finish, sent, released, endpoints } = setUp()
    add('a', { concurrency: 1 })
    scheduler.start()
    for (const i of numbers(3)) admit('a', i)
    endpoints.set('a', endpointRecord('a', { status: 'paused' }))
    scheduler.refresh('a')
    expect(released).toEqual(['a:1', 'a:2'])
    finish()
    expect(admit('a', 'new')).toBe(false)
    expect(scheduler.isDrained).toBe(true)
    endpoints.set('a', endpointRecord('a'))
    scheduler.refresh('a')
    await settled()
    expect(sent).toEqual(['a:0', 'a:1', 'a:2'])
  })

  it.each(['disabled', 'gone'])('%s: what is ready goes back, to be ended', async (how) => {
    const { scheduler, add, admit, finish, released, orphaned, sent, endpoints } = setUp()
    add('a', { concurrency: 1 })
    scheduler.start()
    for (const i of numbers(3)) admit('a', i)
    if (how === 'gone') endpoints.delete('a')
    else endpoints.set('a', endpointRecord('a', { status: 'disabled' }))
    scheduler.refresh('a')
    finish()
    expect(released).toEqual(['a:1', 'a:2'])
    await settled()
    expect(orphaned).toContain('a')
    expect(sent).toEqual(['a:0'])
    expect(scheduler.isDrained).toBe(true)
  })

  it('suspended by a 410 that is being written: nothing begins, and goes on if it was late', async () => {
    const { scheduler, add, admit, finish, sent, store } = setUp()
    add('a', { concurrency: 1 })
    scheduler.start()
    for (const i of numbers(3)) admit('a', i)
    scheduler.suspend('a')
    finish()
    store('a', 'later', 0)
    await settled()
    expect(sent).toEqual(['a:0'])
    expect(admit('a', 'new')).toBe(false)
    scheduler.unsuspend('a')
    for (let i = 0; i < 4; i += 1) {
      await settled()
      finish()
    }
    expect([...sent].sort()).toEqual(['a:0', 'a:1', 'a:2', 'a:later'])
  })
})

describe('batches', () => {
  const batch = { size: 3, timeoutMs: 5_000 }

  it('asks as soon as enough deliveries wait', async () => {
    const { scheduler, add, store, sent } = setUp()
    add('a', { batch })
    scheduler.start()
    store('a', '1', 5_000, false, true)
    store('a', '2', 5_000, false, true)
    await settled()
    expect(sent).toEqual([])
    store('a', '3', 5_000, false, true)
    await settled()
    expect(sent).toEqual(['a:batch1'])
  })

  it('else when the first of them is due', async () => {
    const { scheduler, clock, add, store, sent } = setUp()
    add('a', { batch })
    scheduler.start()
    store('a', '1', 5_000, false, true)
    clock.set(5_000)
    await settled()
    expect(sent).toEqual(['a:batch1'])
  })

  it('keeps count over a claim that took a retry and sealed nothing', async () => {
    const { scheduler, clock, add, store, sent } = setUp()
    add('a', { batch })
    scheduler.start()
    store('a', '1', 9_000, false, true)
    store('a', '2', 9_000, false, true)
    store('a', 'retry', 1_000, true)
    clock.set(1_000)
    await settled()
    expect(sent).toEqual(['a:retry'])
    store('a', '3', 9_000, false, true)
    await settled()
    expect(sent).toEqual(['a:retry', 'a:batch1'])
  })

  it('counts what arrives while a claim is under way', async () => {
    const { scheduler, clock, add, store, asked, sent, holdAnswers } = setUp()
    add('a', { batch })
    scheduler.start()
    holdAnswers()
    store('a', 'retry', 1_000, true)
    clock.set(1_000)
    await settled()
    asked[0]?.answer()
    store('a', '1', 9_000, false, true)
    store('a', '2', 9_000, false, true)
    await settled()
    store('a', '3', 9_000, false, true)
    await settled()
    asked[1]?.answer()
    await settled()
    expect(sent).toEqual(['a:retry', 'a:batch1'])
  })

  it('is never handed a reserved place', () => {
    const { scheduler, add, admit } = setUp()
    add('a', { batch })
    scheduler.start()
    expect(admit('a', '1')).toBe(false)
  })
})

describe('stopping', () => {
  it('gives back what is ready and what arrives, and starts nothing', () => {
    const { scheduler, add, admit, finish, endpoints, released, sent } = setUp()
    const record = add('a', { concurrency: 1 })
    scheduler.start()
    admit('a', '0')
    admit('a', '1')
    expect(scheduler.reserve(endpoints.get('a') ?? record)).toBe(true)
    scheduler.stop()
    scheduler.admit(claimOf('a:2', 'a'))
    finish()
    expect(released).toEqual(['a:1', 'a:2'])
    expect(sent).toEqual(['a:0'])
    expect(scheduler.reserve(record)).toBe(false)
    expect(scheduler.isInactive).toBe(true)
  })

  it('gives back what was cancelled while its claim was on its way', async () => {
    const { scheduler, add, store, asked, sent, released, cancelled, holdAnswers } = setUp()
    add('a')
    holdAnswers()
    scheduler.start()
    store('a', '1', 0)
    store('a', '2', 0)
    await settled()
    cancelled.add('a:1')
    for (const { answer } of asked.splice(0)) answer()
    await settled()
    expect(sent).toEqual(['a:2'])
    expect(released).toEqual(['a:1'])
  })

  it('waits for a claim under way and gives back what it brings', async () => {
    const { scheduler, clock, add, store, asked, released, sent, holdAnswers } = setUp()
    add('a')
    scheduler.start()
    holdAnswers()
    store('a', '1', 10)
    clock.set(10)
    await settled()
    scheduler.stop()
    expect(scheduler.isInactive).toBe(false)
    asked[0]?.answer()
    await settled()
    expect(released).toEqual(['a:1'])
    expect(sent).toEqual([])
    expect(scheduler.isInactive).toBe(true)
    expect(clock.nextTimerAtMs).toBeNull()
  })

  it('does not wait for a claim that is to be tried again', async () => {
    const { scheduler, clock, add, store, asked, holdAnswers } = setUp()
    add('a')
    scheduler.start()
    holdAnswers()
    store('a', '1', 10)
    clock.set(10)
    await settled()
    asked[0]?.answer(new WebhookError('STORAGE_UNAVAILABLE', 'gone'))
    await settled()
    scheduler.stop()
    expect(scheduler.isInactive).toBe(true)
    expect(clock.nextTimerAtMs).toBeNull()
  })
})

describe('whatever happens', () => {
  const lanes = ['a', 'b', 'c']
  const step = fc.oneof(
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('admit' as const), lane: fc.nat(2) }) },
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('store' as const),
        lane: fc.nat(2),
        inMs: fc.nat(500),
      }),
    },
    { weight: 6, arbitrary: fc.record({ kind: fc.constant('finish' as const), count: fc.nat(5) }) },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(300) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('pause' as const), lane: fc.nat(2) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('resume' as const), lane: fc.nat(2) }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('hold' as const),
        lane: fc.nat(2),
        ms: fc.nat(400),
      }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('suspend' as const), lane: fc.nat(2) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
  )

  it('limits hold, and in the end everything has been sent once', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
        const site = setUp({ maxConcurrency: 4, laneCapacity: 5, memoryCapacity: 12 })
        const { scheduler, clock, endpoints, running, sent } = site
        for (const lane of lanes) site.add(lane, { concurrency: 2 })
        scheduler.start()
        const expected: string[] = []
        const suspended: string[] = []
        const check = () => {
          expect(running.length).toBeLessThanOrEqual(4)
          for (const lane of lanes) {
            const ofLane = running.filter((one) => one.endpointKey === lane).length
            expect(ofLane).toBeLessThanOrEqual(2)
          }
        }
        for (const one of steps) {
          const lane = 'lane' in one ? (lanes[one.lane] ?? 'a') : 'a'
          const id = `${expected.length}`
          if (one.kind === 'admit') {
            expected.push(`${lane}:${id}`)
            if (!site.admit(lane, id)) site.store(lane, id, clock.nowMs())
          } else if (one.kind === 'store') {
            expected.push(`${lane}:${id}`)
            site.store(lane, id, clock.nowMs() + one.inMs)
          } else if (one.kind === 'finish') site.finish(one.count)
          else if (one.kind === 'pass') clock.advance(one.ms)
          else if (one.kind === 'hold') scheduler.hold(lane, clock.nowMs() + one.ms)
          else if (one.kind === 'suspend') {
            suspended.push(lane)
            scheduler.suspend(lane)
          } else if (one.kind === 'settle') await settled()
          else {
            const status = one.kind === 'pause' ? 'paused' : 'active'
            endpoints.set(lane, endpointRecord(lane, { concurrency: 2, status }))
            scheduler.refresh(lane)
            const i = one.kind === 'resume' ? suspended.indexOf(lane) : -1
            if (i >= 0) scheduler.unsuspend(suspended.splice(i, 1)[0] ?? lane)
          }
          check()
        }
        for (const lane of lanes) {
          endpoints.set(lane, endpointRecord(lane, { concurrency: 2 }))
          scheduler.refresh(lane)
        }
        for (const lane of suspended) scheduler.unsuspend(lane)
        for (let i = 0; i < 400 && !(scheduler.isDrained && site.isWritten()); i += 1) {
          await settled()
          site.finish(running.length)
          check()
          if (scheduler.isQuiet && Number.isFinite(scheduler.nextDueAtMs)) {
            clock.set(scheduler.nextDueAtMs)
          }
        }
        expect(scheduler.isDrained).toBe(true)
        expect([...sent].sort()).toEqual([...expected].sort())
      }),
      { numRuns: 150 },
    )
  })
})
