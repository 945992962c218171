// A large backlog, of which most is not to be sent, costs the rest nothing. (A million: test/full.)
import { test } from 'vitest'
import { expectFlat } from './backlog.ts'

test('100,000 waiting deliveries, most of them paused, slow nothing down', () =>
  expectFlat(100_000))
