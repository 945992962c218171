/** The sender and the receiver of this package, on one wire: every way to sign, every key, a rotation. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { WebhookService } from '@k-msg/webhook'
import { createReceiver, type ReceiverOptions, seenInMemory } from '@k-msg/webhook/receiver'
import { nodeHandler } from '@k-msg/webhook/receiver/node'
import { expect } from 'vitest'
import { journey, type Stage, secret } from './stage.ts'

interface Listening extends AsyncDisposable {
  readonly url: string
  /** Ids of the events its handlers got, in order. */
  readonly handled: string[]
  readonly refused: string[]
}

async function listen(stage: Stage, options: ReceiverOptions): Promise<Listening> {
  const handled: string[] = []
  const refused: string[] = []
  const receiver = createReceiver({
    ...options,
    seen: seenInMemory(),
    nowMs: () => stage.clock.nowMs(),
    onRefused: (error) => {
      refused.push(error.code)
    },
  }).on('*', (event) => {
    handled.push(event.id)
  })
  const server = createServer(nodeHandler(receiver)).listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    handled,
    refused,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function send(stage: Stage, service: WebhookService, ...ids: string[]): Promise<void> {
  await service.dispatchEvents(ids.map((id) => stage.event({ id })))
  await service.drain()
}

journey('one by one and in batches', async (stage) => {
  const service = await stage.open()
  await using receiver = await listen(stage, { secret })
  await service.registerEndpoint({ id: 'one', url: receiver.url, events: ['*'], secret })
  const batch = { size: 3, timeoutMs: 1_000 }
  await service.registerEndpoint({ id: 'many', url: receiver.url, events: ['*'], secret, batch })
  await send(stage, service, 'a', 'b', 'c')
  // Twice on the way, once handled: the receiver knows the events of the batch by their ids.
  expect(receiver.handled.toSorted()).toEqual(['a', 'b', 'c'])
  expect(await service.getStats()).toMatchObject({ successfulDeliveries: 6, failedDeliveries: 0 })
})

journey('a public key verifies what it could not have signed', async (stage) => {
  const service = await stage.open()
  const endpoint = { id: 'one', url: 'https://later.example/', events: ['*'] }
  const created = await service.registerEndpoint({ ...endpoint, secretType: 'ed25519' })
  await using receiver = await listen(stage, { publicKey: created.publicKey ?? '' })
  await service.updateEndpoint('one', { url: receiver.url })
  await send(stage, service, 'a')
  expect(receiver.handled).toEqual(['a'])
  await service.rotateSecret('one', { overlapMs: 0 })
  await send(stage, service, 'b')
  expect(receiver.handled).toEqual(['a'])
  expect(receiver.refused).toEqual(['SIGNATURE_INVALID'])
})

journey('receivers of 0.30 and of the first version', async (stage) => {
  const service = await stage.open()
  for (const scheme of ['body', 'timestamped-body'] as const) {
    await using receiver = await listen(stage, { secret, schemes: [scheme] })
    const endpoint = { id: scheme, url: receiver.url, events: ['*'], secret }
    await service.registerEndpoint({ ...endpoint, signatureSchemes: [scheme] })
    await send(stage, service, `of-${scheme}`)
    expect(receiver.handled).toEqual([`of-${scheme}`])
    await service.removeEndpoint(scheme)
  }
})

journey('a rotation from a secret to a key pair loses nothing', async (stage) => {
  const service = await stage.open()
  await using old = await listen(stage, { secret })
  await service.registerEndpoint({ id: 'one', url: old.url, events: ['*'], secret })
  const { publicKey } = await service.rotateSecret('one', { secretType: 'ed25519' })
  await send(stage, service, 'a')
  expect(old.handled).toEqual(['a'])
  await using next = await listen(stage, { publicKey: publicKey ?? '' })
  await service.updateEndpoint('one', { url: next.url })
  await send(stage, service, 'b')
  await service.finishRotation('one')
  await send(stage, service, 'c')
  expect(next.handled).toEqual(['b', 'c'])
  await service.updateEndpoint('one', { url: old.url })
  await send(stage, service, 'd')
  expect(old.refused).toEqual(['SIGNATURE_INVALID'])
})
