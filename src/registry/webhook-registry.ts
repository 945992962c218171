/**
 * WebhookRegistry: the endpoints, in memory, checked and indexed. Alone it keeps them only in
 * memory; a WebhookService attaches a store, and from then on a change counts once it is written.
 * It never sends anything and knows nothing of deliveries.
 */
import { randomBytes as nodeRandomBytes } from 'node:crypto'
import type {
  EndpointRecord,
  EndpointSecret,
  WebhookEndpoint,
  WebhookEndpointChanges,
  WebhookEndpointInput,
} from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import type { WebhookEvent } from '../model/event.ts'
import { newEndpointKey, type RandomBytes } from '../model/ids.ts'
import { scopedTenantId } from '../model/names.ts'
import type { SecretType, SignatureScheme } from '../model/signature.ts'
import { unmaskTls } from '../security/endpoint-tls.ts'
import { createSigningSecret, secretTypeOf } from '../security/signing-key.ts'
import type { EndpointChange } from '../storage/endpoints.ts'
import {
  applyChanges,
  type ChangeRules,
  newRecord,
  secretsChange,
  statusChange,
} from './endpoint-changes.ts'
import { checkEndpointInput, type EndpointRules } from './endpoint-input.ts'
import { EndpointTable, idKey } from './endpoint-table.ts'
import { publicEndpoint } from './endpoint-view.ts'
import { EndpointWrites, type WritesTo } from './endpoint-writes.ts'
import { FlowTable } from './flow-table.ts'
import {
  currentSecret,
  currentType,
  finished,
  rotated,
  wasReplacedByCall,
  withoutExpired,
} from './rotation.ts'
import { checkRotation, type RotateSecretOptions } from './rotation-input.ts'

/** Whose endpoint: no `tenantId` means those without a tenant. */
export interface TenantScope {
  tenantId?: string | undefined
}

/** The result of `registerEndpoint` and `rotateSecret`: where a created secret is shown, once. */
export interface RegisteredEndpoint extends WebhookEndpoint {
  /**
   * Present only when this call created it. Give it to the receiver; it is not shown again. The
   * private half of an Ed25519 key never is: the receiver gets `publicKey`.
   */
  secret?: string
}

/** What the service puts behind the registry. */
export interface RegistryBacking extends ChangeRules, WritesTo {
  remove(record: EndpointRecord, change: EndpointChange): Promise<void>
  /** Signatures of endpoints that do not say otherwise. */
  readonly schemes: readonly SignatureScheme[]
}

export interface RegistryOptions {
  /** CIDR blocks that endpoints may live in although they are private. */
  allowedNetworks?: readonly string[] | undefined
  nowMs?: (() => number) | undefined
  randomBytes?: RandomBytes | undefined
}

const memoryBacking = {
  save: () => Promise.resolve(true),
  remove: () => Promise.resolve(),
  changed: () => {},
  changedSince: (version) => Promise.resolve({ version, endpoints: [], removedKeys: [] }),
  needsSecret: true,
  sharedSecret: null,
  rotationOverlapMs: 86_400_000,
  schemes: ['standard', 'body'],
} satisfies RegistryBacking

export class WebhookRegistry {
  /** @internal What keeps endpoints from being sent to for a while. */
  readonly flows = new FlowTable()
  readonly #table = new EndpointTable()
  readonly #writes = new EndpointWrites(this.#table, () => this.#backing)
  readonly #randomBytes: RandomBytes
  #nowMs: () => number
  #rules: EndpointRules
  #backing: RegistryBacking = memoryBacking
  /** What was registered before a store was there; null from then on. */
  #early: Map<string, WebhookEndpointInput> | null = new Map()
  /** Endpoints whose secret was created, and shown, before a store was there. */
  readonly #createdEarly = new Set<string>()
  /** Changes run one after another: two at once could both start from the same version. */
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: RegistryOptions = {}) {
    this.#nowMs = options.nowMs ?? Date.now
    this.#randomBytes = options.randomBytes ?? nodeRandomBytes
    this.#rules = { allowedNetworks: options.allowedNetworks ?? [] }
  }

  /**
   * Registers an endpoint, or updates the one with this id: given fields are applied, state,
   * history and statistics stay. It never re-enables what was paused or disabled.
   *
   * @throws WebhookError ENDPOINT_INVALID, ENDPOINT_ID_INVALID, ENDPOINT_URL_INVALID,
   *   ADDRESS_BLOCKED, SECRET_INVALID
   */
  register(input: WebhookEndpointInput): Promise<RegisteredEndpoint> {
    return this.#inTurn(() => this.#register(input))
  }

  async #register(given: WebhookEndpointInput): Promise<RegisteredEndpoint> {
    const known = this.#table.byId(given?.tenantId, given?.id)
    const input = known === undefined ? given : withTls(given, known)
    const url = checkEndpointInput(input, this.#rules)
    this.#noteEarly(input)
    if (known !== undefined) return await this.#registerAgain(known, { ...input, url })
    const type = this.#typeToCreate(input)
    const created = type === null ? null : createSigningSecret(type, this.#randomBytes)
    const record = newRecord({ ...input, url }, this.#newKey(), created, this.#nowMs())
    const change = {
      atMs: record.createdAtMs,
      version: 1,
      what: 'registered',
      reason: null,
      fields: [],
    }
    this.#requireConsistent(record)
    if (created !== null && this.#early) this.#createdEarly.add(idKey(input.tenantId, input.id))
    return this.#registered(await this.#writes.write(record, change), created)
  }

  async #registerAgain(
    known: EndpointRecord,
    input: WebhookEndpointInput,
  ): Promise<RegisteredEndpoint> {
    const { status, active, secretType, secret: given, ...rest } = input
    let created: string | null = null
    let secret = given
    if (given !== undefined && wasReplacedByCall(known, given, this.#nowMs())) {
      // An app that goes on registering with the old one at every start: `rotateSecret` stands.
      secret = undefined
    } else if (
      given === undefined &&
      secretType !== undefined &&
      secretType !== currentType(known)
    ) {
      created = createSigningSecret(secretType, this.#randomBytes)
      secret = created
    }
    const updated = await this.#apply(known, { ...rest, secret })
    return this.#registered(await this.#applyStatusOnUpsert(updated, status, active), created)
  }

  /** The private half of an Ed25519 key stays here. */
  #registered(record: EndpointRecord, created: string | null): RegisteredEndpoint {
    const view = this.#view(record)
    return created === null || secretTypeOf(created) === 'ed25519'
      ? view
      : { ...view, secret: created }
  }

  #view(record: EndpointRecord): WebhookEndpoint {
    return publicEndpoint(record, this.flows.get(record.key), this.#nowMs())
  }

  /**
   * Replaces the secret; the ones before go on signing for `overlapMs`. Given the secret that signs
   * already, it changes nothing.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND, SECRET_INVALID, SECRET_LIMIT, OPTION_OUT_OF_RANGE
   */
  rotateSecret(id: string, options: RotateSecretOptions = {}): Promise<RegisteredEndpoint> {
    return this.#inTurn(async () => {
      checkRotation(options)
      const known = this.#require(id, options)
      if (options.secret !== undefined && options.secret === currentSecret(known)?.secret) {
        return this.#view(known)
      }
      const type = options.secretType ?? currentType(known)
      const created = options.secret ? null : createSigningSecret(type, this.#randomBytes)
      const nowMs = this.#nowMs()
      const { sharedSecret, rotationOverlapMs } = this.#backing
      const secrets = rotated(known, options.secret ?? (created as string), {
        nowMs,
        overlapMs: options.overlapMs ?? rotationOverlapMs,
        sharedSecret,
        byCall: true,
      })
      const { record, change } = secretsChange(
        known,
        secrets,
        'secret rotated',
        'by request',
        nowMs,
      )
      this.#requireConsistent(record)
      const early = this.#early?.get(idKey(known.tenantId, id))
      if (early !== undefined)
        this.#noteEarly({ ...early, secret: secrets[0]?.secret, secretType: undefined })
      return this.#registered(await this.#writes.write(record, change), created)
    })
  }

  /** Only the newest secret signs from now on. @throws WebhookError ENDPOINT_NOT_FOUND */
  finishRotation(id: string, scope?: TenantScope): Promise<WebhookEndpoint> {
    return this.#inTurn(async () => {
      const known = this.#require(id, scope)
      const secrets = finished(known.secrets)
      if (secrets === null) return this.#view(known)
      return this.#view(await this.#endRotation(known, secrets, 'by request'))
    })
  }

  async #endRotation(
    known: EndpointRecord,
    secrets: EndpointSecret[],
    reason: string,
  ): Promise<EndpointRecord> {
    const ended = secretsChange(known, secrets, 'rotation ended', reason, this.#nowMs())
    return await this.#writes.write(ended.record, ended.change)
  }

  /** @throws WebhookError ENDPOINT_NOT_FOUND and those of `register` */
  update(
    id: string,
    changes: WebhookEndpointChanges,
    scope?: TenantScope,
  ): Promise<WebhookEndpoint> {
    return this.#inTurn(async () => {
      const known = this.#require(id, scope)
      refuseWhatStays(changes)
      const { tls } = withTls(changes, known)
      const url = checkEndpointInput(
        { url: known.url, events: known.events, ...definedOnly(changes), id, tls },
        this.#rules,
      )
      const early = this.#early?.get(idKey(known.tenantId, id))
      if (early !== undefined) this.#noteEarly({ ...early, ...definedOnly(changes) })
      const { status, active, ...rest } = changes
      let record = await this.#apply(known, { ...rest, tls, url })
      const wanted = status ?? (active === undefined ? undefined : active ? 'active' : 'disabled')
      if (wanted !== undefined) record = await this.#setStatus(record, wanted, 'by request')
      return this.#view(record)
    })
  }

  /** @throws WebhookError ENDPOINT_NOT_FOUND */
  setStatus(
    id: string,
    status: EndpointRecord['status'],
    reason: string,
    scope?: TenantScope,
  ): Promise<WebhookEndpoint> {
    return this.#inTurn(async () =>
      this.#view(await this.#setStatus(this.#require(id, scope), status, reason)),
    )
  }

  /** @internal Not by request. @returns false when it is not active any more */
  disableActive(endpointKey: string, reason: string): Promise<boolean> {
    return this.#inTurn(async () => {
      const record = this.#table.byKey(endpointKey)
      if (record?.status !== 'active') return false
      await this.#setStatus(record, 'disabled', reason)
      return true
    })
  }

  /** @throws WebhookError ENDPOINT_NOT_FOUND */
  remove(id: string, scope?: TenantScope, reason = 'by request'): Promise<void> {
    return this.#inTurn(async () => {
      const record = this.#require(id, scope)
      const change: EndpointChange = {
        atMs: this.#nowMs(),
        version: record.version + 1,
        what: 'removed',
        reason,
        fields: [],
      }
      this.#early?.delete(idKey(record.tenantId, id))
      await this.#backing.remove(record, change)
      this.#table.remove(record)
      this.#backing.changed({ ...record, status: 'disabled', statusReason: 'removed' }, change)
    })
  }

  get(id: string, scope?: TenantScope): WebhookEndpoint | undefined {
    const record = this.find(id, scope)
    return record && this.#view(record)
  }

  /** Sorted by id. `tenantId: '*'` lists those of every tenant. */
  list(scope?: TenantScope): WebhookEndpoint[] {
    return this.records(scope).map((record) => this.#view(record))
  }

  /** The endpoints of the event's tenant that would get it. */
  match(
    event: Pick<WebhookEvent, 'type' | 'metadata' | 'tenantId'> & { data?: unknown },
  ): WebhookEndpoint[] {
    return this.#table
      .match(event.tenantId ?? '', event.type, event.metadata ?? {}, () => asSent(event.data))
      .map((record) => this.#view(record))
  }

  // ── for the engine ─────────────────────────────────────────────────────────────────────────────

  /** @internal */
  find(id: string, scope?: TenantScope): EndpointRecord | undefined {
    return this.#table.byId(scopedTenantId(scope?.tenantId), id)
  }

  /** @internal */
  byKey(key: string): EndpointRecord | undefined {
    return this.#table.byKey(key)
  }

  /** @internal */
  records(scope?: TenantScope): EndpointRecord[] {
    const tenantId = scopedTenantId(scope?.tenantId)
    const all = this.#table.all()
    const chosen = tenantId === '*' ? all : all.filter((one) => one.tenantId === tenantId)
    return chosen.sort((a, b) => (a.id < b.id ? -1 : 1))
  }

  /** @internal */
  matchRecords(
    tenantId: string,
    eventType: string,
    metadata: Readonly<Record<string, unknown>>,
    data?: () => unknown,
  ): readonly EndpointRecord[] {
    return this.#table.match(tenantId, eventType, metadata, data)
  }

  /** @internal Takes over into memory what a settlement already wrote to the store. */
  takeOver(...what: Parameters<EndpointWrites['takeOver']>): EndpointRecord | undefined {
    return this.#writes.takeOver(...what)
  }

  /**
   * @internal Takes over what other processes have changed.
   *
   * @returns the version of all endpoints that is in force here now
   */
  refresh(): Promise<number> {
    return this.#inTurn(() => this.#writes.refresh(this.#nowMs()))
  }

  /** @internal Forgets secrets whose overlap has ended, here and in the store. */
  dropExpiredSecrets(): Promise<void> {
    return this.#inTurn(async () => {
      for (const record of this.#table.all()) {
        const live = withoutExpired(record.secrets, this.#nowMs())
        if (live !== null) await this.#endRotation(record, live, 'overlap ended')
      }
    })
  }

  /**
   * @internal Writes endpoints as they are once more, so that they are stored under the newest key.
   * Nobody is told: nothing about them has changed.
   */
  saveAgain(endpointKeys: readonly string[], what: string): Promise<void> {
    return this.#inTurn(async () => {
      const nowMs = this.#nowMs()
      await Promise.all(endpointKeys.map((key) => this.#writes.writeAgain(key, what, nowMs)))
    })
  }

  /**
   * @internal Puts a store behind the registry: loads what it holds, then writes what was
   * registered here before.
   *
   * @returns endpoints whose created secret signs nothing, because the store has them with another
   */
  async attach(
    stored: readonly EndpointRecord[],
    backing: RegistryBacking,
    options: EndpointRules & { readonly nowMs: () => number },
  ): Promise<EndpointRecord[]> {
    const early = this.#early ?? []
    this.#early = null
    this.#backing = backing
    this.#nowMs = options.nowMs
    const { allowedNetworks, signatureHeader } = options
    this.#rules = {
      allowedNetworks: allowedNetworks.length > 0 ? allowedNetworks : this.#rules.allowedNetworks,
      signatureHeader,
    }
    const known = new Set(stored.map((one) => idKey(one.tenantId, one.id)))
    const here = this.#table.all()
    for (const record of here) this.#table.remove(record)
    for (const record of stored) this.#table.put(record)
    const fresh = here.filter((one) => !known.has(idKey(one.tenantId, one.id)))
    const inputs = new Map(early)
    for (const record of fresh) {
      const input = inputs.get(idKey(record.tenantId, record.id))
      await this.#untilWritten(() => this.#writeFirst(record, input))
    }
    for (const [key, input] of early) {
      // Known to the store: an upsert, as at every start.
      if (known.has(key)) await this.#untilWritten(() => this.#register(input))
    }
    return stored.filter((one) => this.#createdEarly.has(idKey(one.tenantId, one.id)))
  }

  async #writeFirst(
    record: EndpointRecord,
    input: WebhookEndpointInput | undefined,
  ): Promise<void> {
    if (input !== undefined && this.#table.byId(record.tenantId, record.id) !== undefined) {
      // Another process, started at the same moment, was faster.
      await this.#register(input)
      return
    }
    const { createdAtMs: atMs, version } = record
    const change = { atMs, version, what: 'registered', reason: null, fields: [] }
    await this.#writes.write(record, change)
  }

  // ── inside ─────────────────────────────────────────────────────────────────────────────────────

  #noteEarly(input: WebhookEndpointInput): void {
    this.#early?.set(idKey(input.tenantId, input.id), input)
  }

  /** 40 random bits meet again among a million endpoints: one must never be taken for another. */
  #newKey(): string {
    for (;;) {
      const key = newEndpointKey(this.#randomBytes)
      if (this.#table.byKey(key) === undefined) return key
    }
  }

  /** Null when it is given a secret, shares one, or signs nothing. */
  #typeToCreate({ secret, secretType, tenantId }: WebhookEndpointInput): SecretType | null {
    if (secret !== undefined) return null
    if (secretType === 'ed25519') return secretType
    // Customers who share a key could forge to each other: a tenant's endpoint has its own.
    const shares = tenantId === undefined && this.#backing.sharedSecret !== null
    return this.#backing.needsSecret && !shares ? 'hmac' : null
  }

  async #apply(
    known: EndpointRecord,
    changes: Omit<WebhookEndpointChanges, 'status' | 'active'>,
  ): Promise<EndpointRecord> {
    const applied = applyChanges(known, definedOnly(changes), this.#nowMs(), this.#backing)
    if (applied === null) return known
    this.#requireConsistent(applied.record)
    return await this.#writes.write(applied.record, applied.change)
  }

  async #applyStatusOnUpsert(
    record: EndpointRecord,
    status: EndpointRecord['status'] | undefined,
    active: boolean | undefined,
  ): Promise<EndpointRecord> {
    const wanted = active === false ? 'disabled' : status
    if (wanted === undefined || wanted === 'active' || record.status === 'disabled') return record
    return await this.#setStatus(record, wanted, 'by request')
  }

  async #setStatus(
    record: EndpointRecord,
    status: EndpointRecord['status'],
    reason: string,
  ): Promise<EndpointRecord> {
    if (record.status === status) return record
    const changed = statusChange(record, status, reason, this.#nowMs())
    return await this.#writes.write(changed.record, changed.change)
  }

  /** Fields that go together, whichever of them was changed. */
  #requireConsistent(record: EndpointRecord): void {
    this.#requireSignable(record)
    if (record.ordering === null || record.batch === false) return
    throw new WebhookError(
      'ENDPOINT_INVALID',
      `Expected endpoint "${record.id}" to have \`ordering\` or \`batch\`, got both; events of a batch are not sent one after the other.`,
    )
  }

  /** Ed25519 is a signature of Standard Webhooks only. */
  #requireSignable(record: EndpointRecord): void {
    const schemes = record.signatureSchemes ?? this.#backing.schemes
    if (currentType(record) === 'hmac' || schemes.includes('standard')) return
    throw new WebhookError(
      'ENDPOINT_INVALID',
      `Expected 'standard' among the signature schemes of endpoint "${record.id}", because it signs with an Ed25519 key, got ${JSON.stringify(schemes)}; set its \`signatureSchemes\` to ['standard'].`,
    )
  }

  #require(id: string, scope: TenantScope | undefined): EndpointRecord {
    const record = this.find(id, scope)
    if (record !== undefined) return record
    throw new WebhookError(
      'ENDPOINT_NOT_FOUND',
      `Expected the id of a registered endpoint, got ${JSON.stringify(id)}${scope?.tenantId ? ` in tenant ${JSON.stringify(scope.tenantId)}` : ''}; register it first with \`registerEndpoint\`.`,
    )
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => this.#untilWritten(change))
    this.#turn = result.catch(() => {})
    return result
  }

  #untilWritten<T>(change: () => Promise<T>): Promise<T> {
    return this.#writes.untilWritten(change, this.#nowMs)
  }
}

/** As a receiver will see it: dates are texts, for one. */
function asSent(data: unknown): unknown {
  return data === undefined ? undefined : JSON.parse(JSON.stringify(data) ?? 'null')
}

function refuseWhatStays(given: object): void {
  const changes: { id?: unknown; tenantId?: unknown; secretType?: unknown } = given
  for (const name of ['id', 'tenantId'] as const) {
    if (changes[name] === undefined) continue
    throw new WebhookError(
      'ENDPOINT_INVALID',
      `Expected no \`${name}\` among the changes, because it never changes; the endpoint to update is named beside them.`,
    )
  }
  // The result of an update has no place for a created secret.
  if (changes.secretType === undefined) return
  throw new WebhookError(
    'ENDPOINT_INVALID',
    "Expected no `secretType` among the changes; use rotateSecret(id, { secretType: 'ed25519' }).",
  )
}

/** With the TLS settings it will have: those known where none are given, or its key is masked. */
function withTls<Given extends { tls?: WebhookEndpointInput['tls'] }>(
  given: Given,
  { tls: known }: EndpointRecord,
): Given & { tls: WebhookEndpointInput['tls'] } {
  const tls = given?.tls === undefined ? known : unmaskTls(given.tls, known)
  return { ...given, tls: tls as WebhookEndpointInput['tls'] }
}

function definedOnly<T extends object>(changes: T): Partial<T> {
  return Object.fromEntries(
    Object.entries(changes).filter(([, value]) => value !== undefined),
  ) as Partial<T>
}
