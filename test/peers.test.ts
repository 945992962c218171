import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { expect, test } from 'vitest'

const root = path.join(import.meta.dirname, '..')

/**
 * What other webhook senders got wrong and this one must not, each by the number that its tests
 * carry: `peers 12: …`.
 */
const behaviours: Readonly<Record<number, string>> = {
  1: 'answered for only when event, deliveries and due times are committed together',
  2: 'the same id and body after a half-failed call succeeds; another body is a conflict',
  3: 'a check finds every pair with neither an end nor a due time',
  4: 'recovery asks nobody who has settled the event',
  5: 'a success whose record fails is recorded again',
  6: 'a retry reads the row of the delivery, never a log',
  7: 'after an outage of the store the work goes on without a restart',
  8: 'the end comes in time with a full queue',
  9: 'a filter or an event that is wrong fails alone',
  10: 'an event that matches nothing is stored with the reason',
  11: 'endpoints of one event run side by side, each with its own times and numbers',
  12: 'an endpoint that hangs delays no other',
  13: 'a rate limit holds over processes, and waiting costs no attempt',
  14: 'never more requests to an endpoint than its limit',
  15: 'one deadline over all of an attempt; compression escapes no cap',
  16: 'no redirect is followed, none is a silent success',
  17: 'the address check covers every spelling, exempts no name, keeps connections alive',
  18: 'custom headers cannot set what is ours',
  19: 'faults of the proxy are not held against an endpoint',
  20: 'the default schedule reaches its last step',
  21: 'no attempt before Retry-After',
  22: 'classes come from codes; whatever keeps a receiver from being reached is retried',
  23: 'maxRetries: 0 sends once, undefined is the default',
  24: 'each attempt has its own timestamp and signature, days later, too',
  25: 'url, headers and secret are those of the attempt, which says which',
  26: 'a retry by hand takes what has ended and what never began, and refuses with a reason',
  27: 'a replay or backfill for one endpoint asks no other',
  28: 'during a rotation the old secret alone verifies',
  29: 'no secret in a header, log or list',
  30: 'a filter on a missing key does not match',
  31: 'two endpoints may share a url',
  32: 'what is new or changed counts from the next event, in every process',
  33: 'never disabled by one failure or a test',
  34: 'lists page by cursor',
  35: 'counters are per tenant',
}

function numbersTested(): Set<number> {
  const files = ['test', 'src'].flatMap((folder) =>
    readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.test.ts'))
      .map((file) => path.join(root, folder, file)),
  )
  const names = files
    .filter((file) => file !== import.meta.filename)
    .flatMap((file) => [
      ...readFileSync(file, 'utf8').matchAll(/['"`](?:[\w ]+: )?peers (\d+): \S/g),
    ])
  return new Set(names.map(([, number]) => Number(number)))
}

test('every behaviour that others got wrong has a test with its number', () => {
  const tested = numbersTested()
  const missing = Object.entries(behaviours).filter(([number]) => !tested.has(Number(number)))
  expect(missing).toEqual([])
  expect([...tested].filter((number) => !(number in behaviours))).toEqual([])
})
