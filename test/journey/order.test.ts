import type { WebhookEndpointInput } from '@k-msg/webhook'
import { describe, expect } from 'vitest'
import { between, gate, journey, type Stage } from './stage.ts'

const perUser = { key: 'userId', onExhausted: 'block' } as const

/** An event of this user; its id tells user and number. */
const of = (stage: Stage, userId: string, number: number) =>
  stage.event({ id: `${userId}_${number}`, metadata: { userId } })

/** Ids in the order in which they arrived. */
const arrived = (stage: Stage, id = 'shop') =>
  stage.at(id).map(({ headers }) => headers['webhook-id'] as string)

function inversions(ids: readonly string[]): number {
  const last = new Map<string, number>()
  let count = 0
  for (const id of ids) {
    const [user = '', number] = id.split('_')
    if (Number(number) < (last.get(user) ?? 0)) count += 1
    last.set(user, Number(number))
  }
  return count
}

describe('order per key', () => {
  journey(
    'correctness 13: one after the other, while other keys go on at the same time',
    async (stage) => {
      const hold = gate()
      stage.inbox.setAnswer(({ headers }) =>
        headers['webhook-id'] === 'kim_1' ? { after: hold.opened } : {},
      )
      const service = await stage.open()
      await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
      for (let number = 1; number <= 5; number += 1) {
        for (const user of ['kim', 'lee', 'park'])
          await service.dispatchEvent(of(stage, user, number))
        await service.dispatchEvent(stage.event())
      }
      await stage.inbox.waitForCount(16)
      expect(arrived(stage).filter((id) => id.startsWith('kim'))).toEqual(['kim_1'])
      const waiting = await stage.delivery(service, 'kim_2', 'shop')
      expect(waiting).toMatchObject({ state: 'waiting', nextAttemptAt: null })
      expect(waiting?.waiting).toEqual({ for: 'ordering', until: null })
      const explained = await service.explainEvent('kim_2')
      expect(explained?.endpoints).toMatchObject([{ waitingFor: 'ordering', until: null }])
      hold.open()
      await service.drain()
      const ids = arrived(stage)
      expect([ids.length, inversions(ids.filter((id) => !id.startsWith('evt')))]).toEqual([20, 0])
    },
  )

  journey(
    'F13: a failing head is retried first, only its key waits, inversions 0',
    async (stage) => {
      const failures = new Map([['kim_2', 3]])
      stage.inbox.setAnswer(({ headers }) => {
        const id = headers['webhook-id'] as string
        const left = failures.get(id) ?? 0
        failures.set(id, left - 1)
        return { status: left > 0 ? 503 : 200 }
      })
      const service = await stage.open({ retryScheduleMs: [1_000, 10_000, 100_000] })
      await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
      for (let number = 1; number <= 10; number += 1) {
        for (const user of ['kim', 'lee']) await service.dispatchEvent(of(stage, user, number))
      }
      await service.runDue()
      expect(arrived(stage).filter((id) => id.startsWith('lee'))).toHaveLength(10)
      await stage.passTime(service)
      expect(inversions(arrived(stage))).toBe(0)
      expect(arrived(stage).filter((id) => id.startsWith('kim'))).toEqual([
        ...['kim_1', 'kim_2', 'kim_2', 'kim_2', 'kim_2'],
        ...[3, 4, 5, 6, 7, 8, 9, 10].map((number) => `kim_${number}`),
      ])
    },
  )

  journey('a head that is cancelled in flight lets the next one go', async (stage) => {
    const hold = gate()
    stage.inbox.setAnswer(({ headers }) =>
      headers['webhook-id'] === 'kim_1' ? { status: 503, after: hold.opened } : {},
    )
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
    for (const number of [1, 2, 3]) await service.dispatchEvent(of(stage, 'kim', number))
    await stage.inbox.waitForCount(1)
    for (const id of ['kim_2', 'kim_1']) {
      await service.cancelDelivery((await stage.delivery(service, id, 'shop')).id)
    }
    hold.open()
    await service.drain()
    expect(arrived(stage)).toEqual(['kim_1', 'kim_3'])
    expect(await stage.delivery(service, 'kim_1', 'shop')).toMatchObject({ state: 'cancelled' })
  })

  journey('block: what follows waits, over a restart, until a retry succeeds', async (stage) => {
    let status = 500
    stage.inbox.setAnswer(({ headers }) =>
      headers['webhook-id'] === 'kim_1' ? { status } : { status: 200 },
    )
    const config = { maxRetries: 1 }
    const first = await stage.open(config)
    await first.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
    for (let number = 1; number <= 3; number += 1) {
      for (const user of ['kim', 'lee']) await first.dispatchEvent(of(stage, user, number))
    }
    await stage.passTime(first)
    await first.close()
    const service = await stage.open(config)
    await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
    await service.dispatchEvent(of(stage, 'kim', 4))
    await stage.passTime(service)
    expect(arrived(stage).filter((id) => id.startsWith('kim'))).toEqual(['kim_1', 'kim_1'])
    const behind = await stage.delivery(service, 'kim_2', 'shop')
    await expect(service.retryDelivery(behind.id)).rejects.toMatchObject({
      code: 'DELIVERY_NOT_RETRIABLE',
    })
    status = 200
    const [failed] = await service.getFailedDeliveries('shop')
    expect(failed?.eventId).toBe('kim_1')
    // An operator sees which keys are held up, by what, and since when.
    expect(await service.listBlockedKeys()).toEqual([
      {
        endpointId: 'shop',
        tenantId: null,
        key: 'kim',
        deliveryId: failed?.id,
        since: failed?.settledAt,
      },
    ])
    expect(await service.listBlockedKeys({ endpointId: 'shop' })).toHaveLength(1)
    expect(await service.listBlockedKeys({ tenantId: 'other' })).toEqual([])
    expect(await service.listBlockedKeys({ tenantId: '*' })).toHaveLength(1)
    // What waits behind it can not be made due: a repair says so beforehand, as it does afterwards.
    const query = { endpointId: 'shop', states: ['waiting'] } as const
    const preview = await service.replay({ ...query, dryRun: true })
    expect(preview).toMatchObject({ count: 0, skipped: { behind_another: 3 } })
    const { id } = await service.replay(query)
    await service.runDue()
    expect(await service.getRepair(id)).toMatchObject({
      state: 'done',
      queued: 0,
      skipped: { behind_another: 3 },
    })
    await service.retryDelivery(failed?.id ?? '')
    await service.drain()
    expect(
      arrived(stage)
        .filter((id) => id.startsWith('kim'))
        .slice(2),
    ).toEqual([...['kim_1', 'kim_2', 'kim_3', 'kim_4']])
    expect(await service.listBlockedKeys()).toEqual([])
  })

  journey('block: or until it is skipped by hand', async (stage) => {
    stage.inbox.setAnswer(({ headers }) =>
      headers['webhook-id'] === 'kim_1' ? { status: 400 } : {},
    )
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
    for (let number = 1; number <= 3; number += 1)
      await service.dispatchEvent(of(stage, 'kim', number))
    await service.runDue()
    expect(arrived(stage)).toEqual(['kim_1'])
    const { id } = await stage.delivery(service, 'kim_1', 'shop')
    await service.skipDelivery(id)
    await service.drain()
    expect(arrived(stage)).toEqual(['kim_1', 'kim_2', 'kim_3'])
    const again = service.skipDelivery(id)
    await expect(again).rejects.toMatchObject({ code: 'DELIVERY_NOT_FOUND' })
  })

  journey('block: or until what failed is erased, which nobody can send again', async (stage) => {
    stage.inbox.setAnswer(({ headers }) =>
      headers['webhook-id'] === 'kim_1' ? { status: 400 } : {},
    )
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
    for (let number = 1; number <= 3; number += 1)
      await service.dispatchEvent(of(stage, 'kim', number))
    await service.runDue()
    expect(await service.eraseEvents({ ids: ['kim_1'] })).toEqual({ erased: 1, inFlight: 0 })
    await service.drain()
    expect(arrived(stage)).toEqual(['kim_1', 'kim_2', 'kim_3'])
    expect(await service.listBlockedKeys()).toEqual([])
  })

  journey('block: however long nobody looks, it can be retried or skipped', async (stage) => {
    let status = 400
    stage.inbox.setAnswer(({ headers }) =>
      (headers['webhook-id'] as string).endsWith('_1') ? { status } : {},
    )
    const service = await stage.open()
    await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
    for (const user of ['kim', 'lee']) {
      for (const number of [1, 2]) await service.dispatchEvent(of(stage, user, number))
    }
    await service.runDue()
    stage.clock.advance(40 * 86_400_000)
    await stage.pruned(service)
    const blocked = await service.listBlockedKeys()
    expect(blocked.map(({ key }) => key).sort()).toEqual(['kim', 'lee'])
    expect((await service.explainEvent('kim_1'))?.endpoints).toMatchObject([
      { reason: 'status_400' },
    ])
    const holder = (user: string) => blocked.find(({ key }) => key === user)?.deliveryId ?? ''
    status = 200
    await service.retryDelivery(holder('kim'))
    await service.skipDelivery(holder('lee'))
    await service.dispatchEvent(of(stage, 'kim', 3))
    await service.drain()
    expect(arrived(stage).filter((id) => id.startsWith('kim'))).toEqual([
      'kim_1',
      'kim_1',
      'kim_2',
      'kim_3',
    ])
    expect(arrived(stage).filter((id) => id.startsWith('lee'))).toEqual(['lee_1', 'lee_2'])
    expect(await service.listBlockedKeys({ tenantId: '*' })).toEqual([])
  })

  journey('block: a delivery that is gone holds nothing up once it is skipped', async (stage) => {
    stage.inbox.setAnswer(({ headers }) =>
      headers['webhook-id'] === 'kim_1' ? { status: 400 } : {},
    )
    // As retention has left it that did not know of order.
    const storage = between(stage.storage(), async (verb, ask) =>
      verb === 'findDelivery' ? null : await ask(),
    )
    const service = await stage.open({ storage })
    const kim = { tenantId: 'kims' }
    await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser, ...kim }))
    for (const number of [1, 2]) {
      await service.dispatchEvent({ ...of(stage, 'kim', number), ...kim })
    }
    await service.runDue()
    const [blocked] = await service.listBlockedKeys(kim)
    const id = blocked?.deliveryId ?? ''
    const notHis = service.skipDelivery(id, { tenantId: 'other' })
    await expect(notHis).rejects.toMatchObject({ code: 'DELIVERY_NOT_FOUND' })
    await service.skipDelivery(id, kim)
    await service.drain()
    expect(arrived(stage)).toEqual(['kim_1', 'kim_2'])
    const again = service.skipDelivery(id, kim)
    await expect(again).rejects.toMatchObject({ code: 'DELIVERY_NOT_FOUND' })
  })

  journey(
    'skip: it goes on with the next; another rule frees what the old one held',
    async (stage) => {
      stage.inbox.setAnswer(({ headers }) => ({
        status: (headers['webhook-id'] as string).endsWith('_1') ? 400 : 200,
      }))
      const service = await stage.open()
      const skip = { ...perUser, onExhausted: 'skip' } as const
      await service.registerEndpoint(stage.endpoint('skips', { ordering: skip }))
      await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
      for (let number = 1; number <= 3; number += 1)
        await service.dispatchEvent(of(stage, 'kim', number))
      await service.runDue()
      expect([arrived(stage, 'skips').length, arrived(stage).length]).toEqual([3, 1])
      await service.updateEndpoint('shop', { ordering: skip })
      await service.drain()
      expect(arrived(stage)).toEqual(['kim_1', 'kim_2', 'kim_3'])
    },
  )

  journey('what expires lets the next one go; what is sent later stands outside', async (stage) => {
    stage.inbox.setAnswer(() => ({ status: stage.at('shop').length === 1 ? 500 : 200 }))
    const service = await stage.open({ retryScheduleMs: [60_000] })
    await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
    const inMs = (ms: number) => new Date(stage.clock.nowMs() + ms)
    await service.dispatchEvent(of(stage, 'kim', 1), { expiresAt: inMs(1_000) })
    await service.dispatchEvent(of(stage, 'kim', 9), { deliverAt: inMs(86_400_000) })
    await service.dispatchEvent(of(stage, 'kim', 2))
    await service.runDue()
    expect(arrived(stage)).toEqual(['kim_1', 'kim_2'])
    await stage.passTime(service)
    expect(arrived(stage)).toEqual(['kim_1', 'kim_2', 'kim_9'])
  })

  journey(
    'correctness 13: batch and ordering together are refused, whichever comes second',
    async (stage) => {
      const service = await stage.open()
      const refused = (input: Partial<WebhookEndpointInput>) =>
        expect(service.registerEndpoint(stage.endpoint('shop', input))).rejects.toMatchObject({
          code: 'ENDPOINT_INVALID',
        })
      await refused({ batch: true, ordering: perUser })
      await refused({ ordering: { key: 'userId' } as never })
      await refused({ ordering: { ...perUser, key: '' } })
      await service.registerEndpoint(stage.endpoint('shop', { ordering: perUser }))
      await refused({ batch: true })
      await service.updateEndpoint('shop', { ordering: null, batch: true })
      expect(await service.getEndpoint('shop')).toMatchObject({ ordering: null, batch: true })
    },
  )
})
