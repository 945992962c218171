// Stands in for src/deliver/connect.ts where documents run.
import type { Connect } from '../../src/deliver/connect.ts'
import { connectToReceiver } from './local.ts'

export function createConnect(): Connect {
  return connectToReceiver
}
