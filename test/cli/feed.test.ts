import { memory, WebhookService } from '@k-msg/webhook'
import { expect, it, onTestFinished } from 'vitest'
import { randomId } from '../../src/cli/event-of-line.ts'
import { Ahead, feed } from '../../src/cli/feed.ts'
import { type Line, readNdjson } from '../../src/cli/ndjson.ts'

function serviceWithPausedEndpoint(): WebhookService {
  const service = new WebhookService({ storage: memory(), logger: false })
  onTestFinished(() => service.close())
  return service
}

it('reads no further ahead of sending than it may', async () => {
  const service = serviceWithPausedEndpoint()
  await service.registerEndpoint({
    id: 'held',
    url: 'https://a.example/',
    events: ['*'],
    status: 'paused',
  })
  const ahead = new Ahead(10)
  const stop = new AbortController()
  let read = 0
  let accepted = 0
  const lines = async function* (): AsyncGenerator<Line> {
    for (let number = 1; number <= 100; number += 1) {
      read = number
      yield { number, text: '', value: { type: 'a.b', data: number } }
    }
  }
  let reached = (): void => {}
  const full = new Promise<void>((resolve) => {
    reached = resolve
  })
  const report = {
    accepted: () => {
      accepted += 1
      if (accepted === 10 || accepted === 15) reached()
    },
    badLine: () => {},
  }
  const fed = feed(service, lines(), report, { ahead, makeId: randomId, stop: stop.signal })
  await full
  expect(read).toBe(11)

  const again = new Promise<void>((resolve) => {
    reached = resolve
  })
  ahead.leave(5)
  await again
  expect(read).toBe(16)

  stop.abort()
  await fed
  expect(accepted).toBe(15)
})

it('gives up on what is no fault of a line', async () => {
  const service = serviceWithPausedEndpoint()
  await service.ready()
  await service.close()
  const lines = readNdjson(chunks('{"type":"a.b","data":1}\n'))
  const report = { accepted: () => {}, badLine: () => {} }
  const options = { ahead: new Ahead(10), makeId: randomId, stop: new AbortController().signal }
  await expect(feed(service, lines, report, options)).rejects.toMatchObject({
    code: 'SERVICE_CLOSED',
  })
})

async function* chunks(...texts: string[]): AsyncGenerator<string> {
  yield* texts
}
