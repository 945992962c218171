/** All schema changes, in order. A published one is never edited: its number is in users' files. */
import { firstSchema } from './0001-first.ts'
import { deliverySlots } from './0002-delivery-slots.ts'
import { signatureSchemes } from './0003-signature-schemes.ts'
import { endpointTls } from './0004-endpoint-tls.ts'
import { endpointFlow } from './0005-endpoint-flow.ts'
import { endpointLife } from './0006-endpoint-life.ts'
import { repairs } from './0007-repairs.ts'
import { lastAttempt } from './0008-last-attempt.ts'
import { pendingSums } from './0009-pending-sums.ts'

/** Migration n brings a database from `user_version` n - 1 to n. */
export const migrations: readonly string[] = [
  firstSchema,
  deliverySlots,
  signatureSchemes,
  endpointTls,
  endpointFlow,
  endpointLife,
  repairs,
  lastAttempt,
  pendingSums,
]
