// A million waiting deliveries, of which most are not to be sent, cost the rest nothing.
import { test } from 'vitest'
import { expectFlat } from '../storage/backlog.ts'

test('1,000,000 waiting deliveries, most of them paused, slow nothing down', () =>
  expectFlat(1_000_000))
