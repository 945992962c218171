/** Starts a thread for one long read, and gives its result. The store's own thread goes on. */
import { existsSync, statSync } from 'node:fs'
import path from 'node:path'
import { describeValue, WebhookError } from '../../model/errors.ts'
import type { EventFound } from '../questions.ts'
import type { AuditReport } from '../upkeep.ts'
import { errorFromWire } from './errors.ts'
import { startThread } from './leaving.ts'
import type { Answer, Job } from './protocol.ts'
import { loadFrom, workerUrl } from './worker-url.ts'

export function readBeside<Result>(
  location: string,
  job: Job & { kind: 'audit' | 'backup' | 'find' },
): Promise<Result> {
  const data = { location, loadFrom: loadFrom(), code: workerUrl(), job }
  const worker = startThread(data, `kmsg-sqlite-${job.kind}`)
  return new Promise((resolve, reject) => {
    let answer: Answer | null = null
    worker.on('message', (said: Answer) => {
      answer = said
    })
    worker.on('error', reject)
    // Only then is its connection surely closed: one that lingers keeps the log from being cleared.
    worker.on('exit', (code) => {
      const error = answer?.[2]
      if (error) reject(errorFromWire(error))
      else if (answer) resolve(answer[1] as Result)
      else reject(new Error(`The ${job.kind} ended with code ${code} and no result.`))
    })
  })
}

/** @returns its whole path @throws WebhookError OPTION_INVALID */
export function requireFile(file: unknown): string {
  if (typeof file !== 'string') {
    throw new WebhookError(
      'OPTION_INVALID',
      `Expected the path of the database of a service, got ${describeValue(file)}.`,
    )
  }
  const location = path.resolve(file)
  const isThere = existsSync(location)
  if (isThere && !statSync(location).isDirectory()) return location
  throw new WebhookError(
    'OPTION_INVALID',
    `Expected the database of a service, found ${isThere ? 'a directory' : 'no file'} at ${location}; name the file that its \`storage\` names (./.k-msg/webhooks.db unless it says otherwise).`,
  )
}

/**
 * Checks a database file without opening a service on it, also while one runs. Changes nothing.
 *
 * @throws WebhookError STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER | STORAGE_CORRUPT | OPTION_INVALID
 */
export async function auditFile(file: string): Promise<AuditReport> {
  return readBeside<AuditReport>(requireFile(file), { kind: 'audit' })
}

/**
 * An event by an id alone, also while a service runs. Changes nothing.
 *
 * @param id of an event or a delivery
 * @returns one event for each tenant that has it
 * @throws WebhookError STORAGE_FOREIGN | STORAGE_SCHEMA_NEWER | STORAGE_CORRUPT | OPTION_INVALID
 */
export async function findInFile(file: string, id: string): Promise<EventFound[]> {
  return readBeside<EventFound[]>(requireFile(file), { kind: 'find', id })
}
