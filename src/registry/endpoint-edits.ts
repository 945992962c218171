/**
 * Changes of endpoints, from what is asked for to what is written: checked, applied to the record that
 * is known, brought to the store. They run one after another; the registry gives each its turn.
 */
import type {
  EndpointRecord,
  EndpointSecret,
  WebhookEndpointChanges,
  WebhookEndpointInput,
} from '../model/endpoint.ts'
import { newEndpointKey, type RandomBytes } from '../model/ids.ts'
import { createSigningSecret } from '../security/signing-key.ts'
import type { EndpointChange } from '../storage/endpoints.ts'
import type { Terms } from './backing.ts'
import { EarlyEndpoints } from './early-endpoints.ts'
import {
  applyChanges,
  definedOnly,
  newRecord,
  secretsChange,
  statusChange,
  typeToCreate,
  withTls,
} from './endpoint-changes.ts'
import {
  checkEndpointInput,
  refuseNoChanges,
  refuseWhatStays,
  requireConsistent,
} from './endpoint-input.ts'
import { type EndpointTable, idKey } from './endpoint-table.ts'
import type { EndpointWrites } from './endpoint-writes.ts'
import {
  currentSecret,
  currentType,
  finished,
  rotated,
  wasReplacedByCall,
  withoutExpired,
} from './rotation.ts'
import type { RotateSecretOptions } from './rotation-input.ts'

export interface EndpointEditsTools {
  readonly table: EndpointTable
  readonly writes: EndpointWrites
  readonly randomBytes: RandomBytes
  /** Those in force. */
  readonly terms: () => Terms
}

/** An endpoint as it is written, and the secret that was created with it. */
export interface Edited {
  readonly record: EndpointRecord
  readonly created: string | null
}

export class EndpointEdits {
  readonly #tools: EndpointEditsTools
  readonly #early = new EarlyEndpoints()

  constructor(tools: EndpointEditsTools) {
    this.#tools = tools
  }

  // ── register and update ────────────────────────────────────────────────────────────────────────

  async register(given: WebhookEndpointInput): Promise<Edited> {
    const { table, randomBytes } = this.#tools
    const { rules, backing, nowMs } = this.#terms
    const known = table.byId(given?.tenantId, given?.id)
    const input = known === undefined ? given : withTls(given, known)
    const url = checkEndpointInput(input, rules)
    this.#early.note(input)
    if (known !== undefined) return await this.#registerAgain(known, { ...input, url })
    const type = typeToCreate(input, backing)
    const created = type === null ? null : createSigningSecret(type, randomBytes)
    const record = newRecord({ ...input, url }, this.#newKey(), created, nowMs())
    requireConsistent(record, backing.schemes)
    if (created !== null) this.#early.noteCreatedSecret(input)
    return { record: await this.#writeNew(record), created }
  }

  async #registerAgain(known: EndpointRecord, input: WebhookEndpointInput): Promise<Edited> {
    const { status, active, secretType, secret: given, ...rest } = input
    let created: string | null = null
    let secret = given
    if (given !== undefined && wasReplacedByCall(known, given, this.#terms.nowMs())) {
      // An app that goes on registering with the old one at every start: `rotateSecret` stands.
      secret = undefined
    } else if (
      given === undefined &&
      secretType !== undefined &&
      secretType !== currentType(known)
    ) {
      created = createSigningSecret(secretType, this.#tools.randomBytes)
      secret = created
    }
    const updated = await this.#apply(known, { ...rest, secret })
    const wanted = active === false ? 'disabled' : status
    // It never re-enables.
    if (wanted === undefined || wanted === 'active' || updated.status === 'disabled') {
      return { record: updated, created }
    }
    return { record: await this.setStatus(updated, wanted, 'by request'), created }
  }

  async update(known: EndpointRecord, changes: WebhookEndpointChanges): Promise<EndpointRecord> {
    refuseNoChanges(changes)
    refuseWhatStays(changes)
    const { id, url: knownUrl, events } = known
    const { tls } = withTls(changes, known)
    const url = checkEndpointInput(
      { url: knownUrl, events, ...definedOnly(changes), id, tls },
      this.#terms.rules,
    )
    this.#early.change(known, definedOnly(changes))
    const { status, active, ...rest } = changes
    const record = await this.#apply(known, { ...rest, tls, url })
    const wanted = status ?? (active === undefined ? undefined : active ? 'active' : 'disabled')
    return wanted === undefined ? record : await this.setStatus(record, wanted, 'by request')
  }

  async #apply(
    known: EndpointRecord,
    changes: Omit<WebhookEndpointChanges, 'status' | 'active'>,
  ): Promise<EndpointRecord> {
    const { backing, nowMs } = this.#terms
    const applied = applyChanges(known, definedOnly(changes), nowMs(), backing)
    if (applied === null) return known
    requireConsistent(applied.record, backing.schemes)
    return await this.#tools.writes.write(applied.record, applied.change)
  }

  /** 40 random bits meet again among a million endpoints: one must never be taken for another. */
  #newKey(): string {
    for (;;) {
      const key = newEndpointKey(this.#tools.randomBytes)
      if (this.#tools.table.byKey(key) === undefined) return key
    }
  }

  // ── secrets ────────────────────────────────────────────────────────────────────────────────────

  async rotateSecret(known: EndpointRecord, options: RotateSecretOptions): Promise<Edited> {
    if (options.secret !== undefined && options.secret === currentSecret(known)?.secret) {
      return { record: known, created: null }
    }
    const { writes, randomBytes } = this.#tools
    const { backing } = this.#terms
    const type = options.secretType ?? currentType(known)
    const created = options.secret ? null : createSigningSecret(type, randomBytes)
    const nowMs = this.#terms.nowMs()
    const secrets = rotated(known, options.secret ?? (created as string), {
      nowMs,
      overlapMs: options.overlapMs ?? backing.rotationOverlapMs,
      sharedSecret: backing.sharedSecret,
      byCall: true,
    })
    const { record, change } = secretsChange(known, secrets, 'secret rotated', 'by request', nowMs)
    requireConsistent(record, backing.schemes)
    this.#early.change(known, { secret: secrets[0]?.secret, secretType: undefined })
    return { record: await writes.write(record, change), created }
  }

  async finishRotation(known: EndpointRecord): Promise<EndpointRecord> {
    const secrets = finished(known.secrets)
    return secrets === null ? known : await this.#endRotation(known, secrets, 'by request')
  }

  async dropExpiredSecrets(): Promise<void> {
    for (const record of this.#tools.table.all()) {
      const live = withoutExpired(record.secrets, this.#terms.nowMs())
      if (live !== null) await this.#endRotation(record, live, 'overlap ended')
    }
  }

  async #endRotation(
    known: EndpointRecord,
    secrets: EndpointSecret[],
    reason: string,
  ): Promise<EndpointRecord> {
    const ended = secretsChange(known, secrets, 'rotation ended', reason, this.#terms.nowMs())
    return await this.#tools.writes.write(ended.record, ended.change)
  }

  // ── status and end ─────────────────────────────────────────────────────────────────────────────

  async setStatus(
    known: EndpointRecord,
    status: EndpointRecord['status'],
    reason: string,
  ): Promise<EndpointRecord> {
    if (known.status === status && !(await this.#isToLift(known))) return known
    const changed = statusChange(known, status, reason, this.#terms.nowMs())
    return await this.#tools.writes.write(changed.record, changed.change)
  }

  /** Resuming what is active says that it may be sent to: it ends what keeps it back, if anything does. */
  async #isToLift({ key, status }: EndpointRecord): Promise<boolean> {
    return status === 'active' && (await this.#terms.backing.isHeldUp(key))
  }

  async remove(known: EndpointRecord, reason: string): Promise<void> {
    const { backing, nowMs } = this.#terms
    const change: EndpointChange = {
      atMs: nowMs(),
      version: known.version + 1,
      what: 'removed',
      reason,
      fields: [],
    }
    this.#early.remove(known)
    await backing.remove(known, change)
    this.#tools.table.remove(known)
    backing.changed({ ...known, status: 'disabled', statusReason: 'removed' }, change)
  }

  // ── a store is there ───────────────────────────────────────────────────────────────────────────

  /**
   * Takes over what a store holds, then writes what was registered before it was there.
   *
   * @returns endpoints whose created secret signs nothing, because the store has them with another
   */
  async attach(stored: readonly EndpointRecord[]): Promise<EndpointRecord[]> {
    const { table } = this.#tools
    const early = this.#early.end()
    const known = new Set(stored.map((one) => idKey(one.tenantId, one.id)))
    const here = table.all()
    for (const record of here) table.remove(record)
    for (const record of stored) table.put(record)
    const fresh = here.filter((one) => !known.has(idKey(one.tenantId, one.id)))
    for (const record of fresh) {
      const input = early.get(idKey(record.tenantId, record.id))
      await this.#untilWritten(() => this.#writeFirst(record, input))
    }
    for (const [key, input] of early) {
      // Known to the store: an upsert, as at every start.
      if (known.has(key)) await this.#untilWritten(() => this.register(input))
    }
    return stored.filter((one) => this.#early.hasCreatedSecret(one))
  }

  async #writeFirst(
    record: EndpointRecord,
    input: WebhookEndpointInput | undefined,
  ): Promise<void> {
    const { table } = this.#tools
    // Another process, started at the same moment, may have been faster.
    const isThere = input !== undefined && table.byId(record.tenantId, record.id) !== undefined
    await (isThere ? this.register(input) : this.#writeNew(record))
  }

  #writeNew(record: EndpointRecord): Promise<EndpointRecord> {
    const { createdAtMs: atMs, version } = record
    const change = { atMs, version, what: 'registered', reason: null, fields: [] }
    return this.#tools.writes.write(record, change)
  }

  get #terms(): Terms {
    return this.#tools.terms()
  }

  #untilWritten<T>(change: () => Promise<T>): Promise<T> {
    return this.#tools.writes.untilWritten(change, this.#terms.nowMs)
  }
}
