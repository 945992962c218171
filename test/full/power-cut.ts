/** Pulls the plug under load, again and again, and asks after each time what became of everything. */
import { once } from 'node:events'
import { readyOf } from '../crash/kill-at-random.ts'
import { randomFrom } from '../crash/random.ts'
import { Site } from '../crash/site.ts'
import { LoopDisk } from './loop-disk.ts'

export interface Cut {
  readonly accepted: number
  /** Accepted, and the file does not know of them. */
  readonly forgotten: number
  /** Accepted, and no receiver ever got them. */
  readonly lost: number
  readonly duplicates: number
  readonly inFlight: number
  /** Broken invariants, a damaged file included. */
  readonly problems: number
}

/** @param packageUrl the build under test */
export async function cutPower(cuts: number, seed: number, packageUrl?: string): Promise<Cut[]> {
  const random = randomFrom(seed)
  const results: Cut[] = []
  const which = packageUrl === undefined ? {} : { package: packageUrl }
  for (let cut = 0; cut < cuts; cut += 1) {
    using disk = new LoopDisk(96)
    await using site = await Site.open(disk.mountPoint)
    const child = site.start({ mode: 'load', publishers: 48, ...which })
    await readyOf(child)
    await new Promise((resolve) => {
      setTimeout(resolve, 300 + random() * 700)
    })
    const ended = once(child, 'close')
    disk.cut()
    child.kill('SIGKILL')
    await ended
    const { inFlight } = site
    disk.restore()
    const found = await site.finish(which).catch(() => null)
    const { accepted, lost, duplicates } = site.judge()
    results.push({
      accepted,
      forgotten: found?.forgotten.length ?? accepted,
      lost: new Set(lost.map((one) => one.split(' ')[0])).size,
      duplicates,
      inFlight,
      problems: found === null ? 1 : found.problems.length + found.unended.length,
    })
  }
  return results
}

export function asTable(name: string, results: readonly Cut[]): string {
  const columns = ['accepted', 'forgotten', 'lost', 'duplicates', 'inFlight', 'problems'] as const
  const sums = columns.map((column) => results.reduce((sum, one) => sum + one[column], 0))
  return [
    `| ${name} | ${columns.join(' | ')} |`,
    `| --- | ${columns.map(() => '---:').join(' | ')} |`,
    ...results.map(
      (one, i) => `| cut ${i + 1} | ${columns.map((column) => one[column]).join(' | ')} |`,
    ),
    `| all | ${sums.join(' | ')} |`,
  ].join('\n')
}
