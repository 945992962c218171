// One of several processes on one database: child.mjs, started and killed by a test.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { WebhookConfig } from '@k-msg/webhook'
import type { TestSchema } from './schemas.ts'

export const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
/** As child.mjs sets it. */
export const leaseMs = 1_500

export class Process {
  readonly child: ChildProcess
  /** Resolves when it has accepted all its events. */
  readonly accepted: Promise<unknown>
  /** Of one that is held until `go`: it lives. */
  readonly ready: Promise<unknown>
  readonly #ledgerFile: string

  /** @param config and, as `replay`, how many per second it replays once all are delivered */
  constructor(
    schema: TestSchema,
    folder: string,
    name: string,
    events: number,
    config: WebhookConfig & { replay?: number; isHeld?: boolean } = {},
  ) {
    const file = path.join(import.meta.dirname, 'child.mjs')
    this.#ledgerFile = path.join(folder, name)
    const args = [schema.url, schema.name, this.#ledgerFile, secret, name, String(events)]
    args.push(JSON.stringify(config))
    this.child = spawn(process.execPath, [file, ...args], { stdio: ['pipe', 'pipe', 'inherit'] })
    const told = () => once(this.child.stdout!, 'data')
    this.ready = config.isHeld ? told() : Promise.resolve()
    this.accepted = config.isHeld ? this.ready.then(told) : told()
  }

  go(): void {
    this.child.stdin?.write('go\n')
  }

  /** The lines of its ledger with this sign. */
  noted(sign: '=' | '+' | '@' | '-'): string[] {
    const lines = readFileSync(this.#ledgerFile, 'utf8').split('\n')
    return lines.filter((line) => line.startsWith(`${sign} `)).map((line) => line.slice(2))
  }

  /** Deliveries whose request was made and whose outcome was not yet known to be written. */
  get unknown(): Set<string> {
    const unknown = new Set(this.noted('+'))
    for (const id of this.noted('-')) unknown.delete(id)
    return unknown
  }

  async kill(): Promise<void> {
    const closed = once(this.child, 'close')
    this.child.kill('SIGKILL')
    await closed
  }
}
