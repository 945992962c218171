/** A consistent copy of the whole database while it is in use, readable only by its owner. */
import { closeSync, openSync, rmSync } from 'node:fs'
import { WebhookError } from '../../model/errors.ts'
import type { Connection } from './connection.ts'

/**
 * @param target must not exist: a backup never overwrites one
 * @throws WebhookError STORAGE_READ_ONLY when the file cannot be created
 */
export function backup(connection: Connection, target: string): void {
  try {
    closeSync(openSync(target, 'wx', 0o600))
  } catch (error) {
    throw new WebhookError(
      'STORAGE_READ_ONLY',
      `Expected to create ${target} for a backup: ${(error as Error).message}; name a new file in a folder that exists.`,
      { cause: error },
    )
  }
  try {
    // Also compacts: what retention has freed is not copied.
    connection.run('vacuum into ?', target)
  } catch (error) {
    rmSync(target, { force: true })
    throw error
  }
}
