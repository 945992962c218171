/** What waits for a commit together, and how a group of it is cut. */
import type {
  AcceptRecord,
  AcceptResult,
  CommitGroup,
  ReleaseRecord,
  SettlementRecord,
  SettlementResult,
} from './commit-records.ts'

export interface PendingAccept {
  readonly record: AcceptRecord
  readonly weight: number
  /**
   * After the commit, even when the caller was told `STORAGE_UNAVAILABLE` meanwhile.
   *
   * @param ended ids of deliveries that this commit ended at once; null for none
   */
  readonly committed: (result: AcceptResult, ended: ReadonlySet<string> | null) => void
  readonly failed: (error: Error) => void
  /** The caller has had an answer: a hung disk took too long. */
  expired: boolean
  /** Tells the caller; `committed` may still follow. */
  expire(error: Error): void
}

export interface PendingSettlement {
  record: SettlementRecord
  readonly done: (result: SettlementResult) => void
}

export interface PendingGroup {
  accepts: PendingAccept[]
  settlements: PendingSettlement[]
  releases: ReleaseRecord[]
  /** Who waits for this group to be written, see `GroupCommit.written`. */
  waiters: (() => void)[]
}

export const nothing: PendingGroup = { accepts: [], settlements: [], releases: [], waiters: [] }

export function sizeOf({ accepts, settlements, releases }: PendingGroup): number {
  return accepts.length + settlements.length + releases.length
}

export function halvesOf(group: PendingGroup): [PendingGroup, PendingGroup] {
  const { accepts, settlements, releases } = group
  const half = Math.ceil(sizeOf(group) / 2)
  const a = Math.min(half, accepts.length)
  const s = Math.min(half - a, settlements.length)
  const r = half - a - s
  return [
    {
      accepts: accepts.slice(0, a),
      settlements: settlements.slice(0, s),
      releases: releases.slice(0, r),
      waiters: [],
    },
    {
      accepts: accepts.slice(a),
      settlements: settlements.slice(s),
      releases: releases.slice(r),
      waiters: [],
    },
  ]
}

export function asCommit(group: PendingGroup): CommitGroup {
  return {
    accepts: group.accepts.map((one) => one.record),
    settlements: group.settlements.map((one) => one.record),
    releases: group.releases,
  }
}
