/** The store as the engine sees it: each verb is a function of the session. */
import { WebhookError } from '../../model/errors.ts'
import type { StorageHost, Store } from '../storage.ts'
import { audit } from './audit.ts'
import { cancelDeliveries, cancelRest, cancelSome, expireDeliveries } from './cancel.ts'
import { findCandidates } from './candidates.ts'
import { Claims, heads } from './claim.ts'
import { commit } from './commit.ts'
import type { Database, Patience } from './connection.ts'
import { makeDays } from './days.ts'
import {
  changedEndpoints,
  endpointHistory,
  loadEndpoints,
  removeEndpoint,
  saveEndpoint,
} from './endpoint.ts'
import { fanOut } from './fan-out.ts'
import { changeBreaker, findFlow, loadFlows, takeSendTimes } from './flow.ts'
import { loadHealth, saveHealth } from './health.ts'
import { Hints, Listener } from './hints.ts'
import { acceptWithin, takeIntake } from './intake.ts'
import { blockedKeys, releaseOrder } from './order.ts'
import { attemptsOf, findDelivery, findEvent } from './read.ts'
import { createRepair, endRepair, listRepairs, stepRepair } from './repair.ts'
import { retryDelivery } from './retry.ts'
import { RollupWriter } from './rollup.ts'
import { checkServer, migrate, type Server } from './schema.ts'
import type { OpenClient } from './servers.ts'
import { createSession, type Session } from './session.ts'
import { keepDelaysOfWrongClock } from './set-back.ts'
import { Shares } from './shares.ts'
import { createErasing, createPruning, listDeliveries } from './slices.ts'
import { backlog, countLive, statistics } from './statistics.ts'
import { Watch } from './watch.ts'
import { Worker, type WorkerClock } from './worker.ts'

export interface StoreOptions {
  readonly leaseMs: number
  readonly clock: WorkerClock
  /** A connection of its own to listen on; null polls only. */
  readonly listen: (() => Promise<OpenClient>) | null
  /** Runs once everything is given back. */
  readonly onClose: () => Promise<void>
}

/** A commit costs the server as much as a few dozen outcomes, and many processes share it. */
const gatherMs = 25

/** Statements that take milliseconds: one that takes longer has most likely gone nowhere. */
const prompt: Patience = { answerWithinMs: 5_000, repeatForMs: 5_000 }
/** Who asks repeats it himself, and has to know at once that the outcome is unknown. */
const once: Patience = { answerWithinMs: 5_000, repeatForMs: 0 }

export async function openStore(
  database: Database,
  host: StorageHost,
  { leaseMs, clock, listen, onClose }: StoreOptions,
): Promise<Store> {
  const { location } = database
  const askedMs = clock.steadyMs()
  const server = await checkServer(database)
  host.follow?.(server.nowMs, clock.steadyMs() - askedMs)
  tellSettings(host, location, server)
  await migrate(database)
  const shares = new Shares()
  const worker = new Worker(database.with(prompt), clock, leaseMs, {
    lost: () => {
      shares.forget()
      host.log('warn', 'another process took over what this one held', { location })
      watch.watcher?.lost()
    },
    confirmed: () => watch.watcher?.confirmed(),
    tookOver: (heads) => {
      watch.watcher?.due(heads)
      void watch.poll()
    },
    failed: (error) =>
      host.log('warn', 'the lease could not be renewed', { location, error: String(error) }),
  })
  const hints = new Hints(database.with(prompt), clock.setTimer, () => worker.id)
  const sawVersion = (version: number) => watch.sawVersion(version)
  const makeAhead = async () => {
    const problem = await makeDays(database, host.nowMs())
    if (problem === null) return
    host.log('warn', 'days to come could not be partitioned: their rows are deleted one by one', {
      location,
      error: problem,
    })
  }
  const rollups = new RollupWriter(database.with(prompt), () => worker.slot)
  const parts = { database, worker, hints, rollups, sawVersion, makeDays: makeAhead }
  const session = createSession(parts, () => host.nowMs())
  const urgent = { ...session, database: database.with(once) }
  const claims = new Claims(urgent)
  const watched = { ...session, database: database.with(prompt) }
  const watch = new Watch(watched, claims, shares, clock, host)
  const listener =
    listen &&
    new Listener(listen, database.schema.name, clock.setTimer, {
      heard: (sender, hint) => watch.heard(sender, hint),
      pooled: () =>
        host.log('info', 'a pooler is in front of the database: what others do is polled', {
          location,
        }),
    })
  await makeAhead()
  await worker.open()
  await keepDelaysOfWrongClock(database, session.nowMs())
  let closing: Promise<void> | null = null
  return {
    description: `PostgreSQL ${server.version} (pg)`,
    location,
    gatherMs,
    get isOwner() {
      return worker.isSure
    },
    async watch(watcher) {
      // First, so that nothing falls between looking and listening.
      await listener?.start()
      await watch.start(watcher)
    },
    commit: (group) => commit(urgent, group),
    acceptWithin: (transaction, event) => acceptWithin(session, transaction, event),
    takeIntake: (match, limit) => takeIntake(session, match, limit),
    claim: (rooms, atMs) => claims.claim(rooms, Math.round(atMs)),
    heads: () => database.read(heads),
    fanOut: (limit, atMs) => fanOut(session, limit, Math.round(atMs)),
    loadEndpoints: () => loadEndpoints(session),
    loadFlows: () => loadFlows(session),
    findFlow: (key) => findFlow(session, key),
    changeBreaker: (key, next) => changeBreaker(session, key, next),
    takeSendTimes: (asks, atMs, notAfterMs) => takeSendTimes(session, asks, atMs, notAfterMs),
    shares,
    changedEndpoints: (version) => changedEndpoints(session, version),
    saveEndpoint: (record, change, seenVersion) =>
      saveEndpoint(session, record, change, seenVersion),
    removeEndpoint: (key, change) => removeEndpoint(session, key, change),
    loadHealth: () => loadHealth(session),
    saveHealth: (health, change) => saveHealth(session, health, change),
    endpointHistory: (key, limit, before) => endpointHistory(session, key, limit, before),
    findEvent: (tenantId, eventId) => findEvent(session, tenantId, eventId),
    findDelivery: (id) => findDelivery(session, id),
    attemptsOf: (deliveries) => attemptsOf(session, deliveries),
    cancelDeliveries: (key, reason, atMs, limit) =>
      cancelDeliveries(session, key, reason, Math.round(atMs), limit),
    cancelRest: (key, reason, atMs) => cancelRest(session, key, reason, Math.round(atMs)),
    expireDeliveries: (atMs, limit) => expireDeliveries(session, Math.round(atMs), limit),
    releaseOrder: (key, deliveryId, atMs) =>
      releaseOrder(session, key, deliveryId, Math.round(atMs)),
    blockedKeys: (tenantId, key, limit) => blockedKeys(session, tenantId, key, limit),
    retryDelivery: (id, atMs) => retryDelivery(session, id, Math.round(atMs)),
    cancelSome: (ids, reason, atMs) => cancelSome(session, ids, reason, Math.round(atMs)),
    createRepair: (repair) => createRepair(session, repair),
    listRepairs: (query, atMs) => listRepairs(session, query, Math.round(atMs)),
    findCandidates: (query) => findCandidates(session, query),
    stepRepair: (step, atMs) => stepRepair(session, step, Math.round(atMs)),
    endRepair: (id, state, reason, atMs) => endRepair(session, id, state, reason, Math.round(atMs)),
    listDeliveries: (query) => listDeliveries(session, query),
    statistics: (query) => statistics(session, query),
    backlog: () => backlog(urgent, session.nowMs()),
    countLive: () => countLive(session),
    prune: createPruning(session),
    eraseEvents: createErasing(session),
    backup: () => Promise.reject(backupIsTheServers(location)),
    audit: () => audit(database),
    close() {
      closing ??= close(watch, hints, listener, session).finally(onClose)
      return closing
    },
  }
}

function tellSettings(host: StorageHost, location: string, { unsafe, jit }: Server): void {
  if (unsafe.length > 0) {
    host.log('warn', 'accepted events can be lost when the server stops: settings are off', {
      location,
      settings: unsafe.join(', '),
    })
  }
  if (jit) {
    host.log('info', 'statements are compiled at a cost: set jit = off for this role', { location })
  }
}

async function close(
  watch: Watch,
  hints: Hints,
  listener: Listener | null,
  { worker, rollups }: Pick<Session, 'worker' | 'rollups'>,
): Promise<void> {
  const isHeard = !hints.isAlone
  hints.stop()
  await watch.stop()
  await listener?.stop()
  await rollups.stop()
  await worker.close()
  // Others may take its share, and what it gave back.
  if (isHeard) await hints.sayNow({ workers: true, due: null })
}

function backupIsTheServers(location: string): WebhookError {
  return new WebhookError(
    'BACKUP_UNSUPPORTED',
    `Expected a store in a file, got ${location}: back it up with the server's own tools (pg_dump, or its replication and archive).`,
  )
}
