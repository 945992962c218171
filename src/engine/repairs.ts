/** Repairs of many deliveries: begins them, counts what they would do, tells of them, ends them. */
import type { EndpointRecord } from '../model/endpoint.ts'
import { WebhookError } from '../model/errors.ts'
import { checkAsked, checkScope } from '../model/given.ts'
import { eventKeyFloor } from '../model/ids.ts'
import { scopedTenantId } from '../model/names.ts'
import type { Facts } from '../observe/facts.ts'
import { chooseForRepair, needsBody } from '../policy/repair.ts'
import type { TenantScope, WebhookRegistry } from '../registry/webhook-registry.ts'
import type { NewRepair, RepairRecord } from '../storage/repairs.ts'
import { refuseDisabled, unknownEndpoint } from './repair.ts'
import {
  type CheckedRepair,
  publicRepair,
  type Repair,
  type RepairPreview,
} from './repair-query.ts'
import { asked, RepairRunner, type RunnerTools } from './repair-runner.ts'

export interface RepairsTools extends Omit<RunnerTools, 'moved' | 'registry'> {
  readonly registry: WebhookRegistry
  readonly facts: Facts
  readonly newKey: () => string
}

/** A dry run looks through so many pages at the most: seconds, in which commits get their turn. */
const mostPages = 1_000
const mostCandidates = 100_000
const rowsPerPage = 1_000
const rowsPerPageWithBodies = 100
const sampleSize = 10
const mostListed = 100

export class Repairs {
  readonly #tools: RepairsTools
  readonly #runner: RepairRunner

  constructor(tools: RepairsTools) {
    this.#tools = tools
    this.#runner = new RepairRunner({ ...tools, moved: (record) => this.#tell(record) })
  }

  /** There may be repairs that run, of an earlier process or of another one. */
  look(): void {
    this.#runner.look()
  }

  stop(): void {
    this.#runner.stop()
  }

  /**
   * Resolves once it is stored, or counted.
   *
   * @throws WebhookError ENDPOINT_NOT_FOUND, ENDPOINT_DISABLED, STORAGE_…
   */
  async begin(checked: CheckedRepair): Promise<Repair | RepairPreview> {
    const { registry, store, clock, newKey } = this.#tools
    const { kind, criteria, maxPerSecond, scope, endpointId } = checked
    const endpoint = registry.find(endpointId, scope)
    if (endpoint === undefined) throw unknownEndpoint(endpointId)
    refuseDisabled(endpoint)
    const repair = {
      kind,
      criteria,
      maxPerSecond,
      tenantId: endpoint.tenantId,
      endpointKey: endpoint.key,
      createdAtMs: Math.round(clock.nowMs()),
      cursor: eventKeyFloor(criteria.sinceMs),
    }
    if (checked.dryRun) return await this.#preview(repair, endpoint)
    const begun: NewRepair = { ...repair, id: `rep_${newKey()}` }
    await store.createRepair(begun)
    this.#runner.run(begun.id)
    return publicRepair(asNew(begun, endpoint.id))
  }

  async find(id: string, scope: TenantScope | undefined): Promise<Repair | null> {
    const record = await this.#record(id, scope)
    return record === null ? null : publicRepair(record)
  }

  /** Newest first. */
  async list(scope: TenantScope | undefined): Promise<Repair[]> {
    checkScope(scope)
    const tenantId = tenantOf(scope)
    const query = { tenantId, id: null, onlyRunning: false, limit: mostListed }
    const records = await this.#tools.store.listRepairs(query, this.#tools.clock.nowMs())
    return records.map(publicRepair)
  }

  /** @throws WebhookError REPAIR_NOT_FOUND; one that has ended stays as it is */
  async cancel(id: string, scope: TenantScope | undefined): Promise<Repair> {
    const { store, clock } = this.#tools
    const found = await this.#record(id, scope)
    if (found === null) {
      throw new WebhookError(
        'REPAIR_NOT_FOUND',
        `Expected the id of a repair, got ${JSON.stringify(id)}; \`listRepairs\` lists them.`,
      )
    }
    const isOver = await store.endRepair(id, 'cancelled', 'by_request', clock.nowMs())
    const record = (await this.#record(id, scope)) ?? found
    if (isOver) this.#tell(record)
    return publicRepair(record)
  }

  async #record(id: string, scope: TenantScope | undefined): Promise<RepairRecord | null> {
    checkAsked('repair', id, scope)
    if (!/^rep_[0-9a-z]{24}$/.test(id)) return null
    const query = { tenantId: tenantOf(scope), id, onlyRunning: false, limit: 1 }
    const [record] = await this.#tools.store.listRepairs(query, this.#tools.clock.nowMs())
    return record ?? null
  }

  async #preview(repair: Omit<NewRepair, 'id'>, endpoint: EndpointRecord): Promise<RepairPreview> {
    const { kind, criteria } = repair
    const withBodies = kind === 'backfill' && needsBody(criteria, endpoint)
    const limit = withBodies ? rowsPerPageWithBodies : rowsPerPage
    const skipped: Record<string, number> = {}
    const sample: RepairPreview['sample'] = []
    let count = 0
    let after: string | null = repair.cursor
    let looked = 0
    for (
      let pages = 0;
      after !== null && pages < mostPages && looked < mostCandidates;
      pages += 1
    ) {
      const nowMs = this.#tools.clock.nowMs()
      const query = { ...asked(repair), after, withBodies, limit }
      const page = await this.#tools.store.findCandidates(query)
      for (const candidate of page.candidates) {
        const choice = chooseForRepair(kind, criteria, endpoint, candidate, nowMs)
        if (choice === 'unwanted') continue
        if (choice !== 'take') {
          skipped[choice] = (skipped[choice] ?? 0) + 1
          continue
        }
        count += 1
        const { eventId, eventType, acceptedAtMs } = candidate
        if (sample.length < sampleSize) {
          sample.push({ eventId, eventType, acceptedAt: new Date(acceptedAtMs) })
        }
      }
      looked += page.candidates.length
      after = page.next
    }
    return { dryRun: true, count, isComplete: after === null, skipped, sample }
  }

  #tell(record: RepairRecord): void {
    const { facts } = this.#tools
    const name = record.state === 'running' ? 'repair.progress' : 'repair.done'
    if (!facts.wants(name)) return
    const { id, kind, endpointId, tenantId, state, reason, matched, queued, skipped } =
      publicRepair(record)
    const fact = { repairId: id, kind, endpointId, tenantId, matched, queued, skipped }
    if (state === 'running') facts.tell('repair.progress', fact)
    else facts.tell('repair.done', { ...fact, state, reason })
  }
}

function tenantOf(scope: TenantScope | undefined): string | null {
  const tenantId = scopedTenantId(scope?.tenantId)
  return tenantId === '*' ? null : tenantId
}

function asNew(repair: NewRepair, endpointId: string): RepairRecord {
  return {
    ...repair,
    endpointId,
    state: 'running',
    reason: null,
    nextStepAtMs: repair.createdAtMs,
    isOwn: true,
    matched: 0,
    queued: 0,
    skipped: {},
    endedAtMs: null,
    pending: 0,
  }
}
