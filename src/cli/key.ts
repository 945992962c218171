/** `kmsg-webhook key`: a new key for KMSG_WEBHOOK_ENCRYPTION_KEYS. */
import { randomBytes } from 'node:crypto'
import { createEncryptionKey } from '../index.ts'
import { exitCodes, UsageError } from './failure.ts'

export function key(id: string = datedId()): number {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(id)) {
    throw new UsageError('Expected --id to be 1 to 64 characters of A-Z, a-z, 0-9, _ and -.')
  }
  process.stdout.write(`${createEncryptionKey(id)}\n`)
  return exitCodes.well
}

/** Tells its age; two of one day differ. */
function datedId(): string {
  const day = new Date().toISOString().slice(0, 10).replaceAll('-', '')
  return `k${day}-${randomBytes(2).toString('hex')}`
}
