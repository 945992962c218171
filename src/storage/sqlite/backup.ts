/** A consistent copy of the whole database while it is in use, readable only by its owner. */
import { closeSync, openSync, rmSync } from 'node:fs'
import type { Connection } from './connection.ts'
import { fileSystemError } from './errors.ts'

/**
 * @param target must not exist: a backup never overwrites one
 * @throws WebhookError OPTION_INVALID, STORAGE_READ_ONLY, STORAGE_FULL when it cannot be created
 */
export function backup(connection: Connection, target: string): void {
  try {
    closeSync(openSync(target, 'wx', 0o600))
  } catch (error) {
    throw fileSystemError(error, `to create ${target} for a backup`, 'name a new one')
  }
  try {
    // Also compacts: what retention has freed is not copied.
    connection.run('vacuum into ?', target)
  } catch (error) {
    rmSync(target, { force: true })
    throw error
  }
}
