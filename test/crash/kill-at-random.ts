/** Kills a process under load again and again, and compares the ledgers in the end. */
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { expect } from 'vitest'
import { randomFrom } from './random.ts'
import { type Finished, Site, type Verdict } from './site.ts'

export interface Killed {
  readonly finished: Finished
  readonly verdict: Verdict
  /** Requests on their way at the kills, all together. */
  readonly inFlight: number
}

/** @param packageUrl another build than `dist/` */
export async function killAtRandom(
  kills: number,
  seed: number,
  packageUrl?: string,
): Promise<Killed> {
  const random = randomFrom(seed)
  const which = packageUrl === undefined ? {} : { package: packageUrl }
  await using site = await Site.open()
  let inFlight = 0
  const recoveriesMs: number[] = []
  for (let kill = 0; kill < kills; kill += 1) {
    const child = site.start({ mode: 'load', ...which })
    // Some die while they are starting: half way through taking over what the last one left.
    const isEarly = random() < 0.2
    if (!isEarly) {
      const spawnedAtMs = performance.now()
      void site.inbox.waitForCount(site.inbox.received.length + 1).then(
        () => recoveriesMs.push(performance.now() - spawnedAtMs),
        () => {},
      )
      await readyOf(child)
    }
    await new Promise((resolve) => {
      setTimeout(resolve, isEarly ? 100 + random() * 300 : 20 + random() * 400)
    })
    child.kill('SIGKILL')
    const [, signal] = await once(child, 'close')
    expect(signal).toBe('SIGKILL')
    inFlight += site.inFlight
  }
  const finished = await site.finish(which)
  const verdict = site.judge()
  report(kills, seed, inFlight, recoveriesMs, verdict)
  return { finished, verdict, inFlight }
}

export function expectNothingLost({ finished, verdict, inFlight }: Killed): void {
  expect(finished).toMatchObject({
    problems: [],
    unended: [],
    forgotten: [],
    backlog: { waiting: 0, delivering: 0 },
  })
  expect(verdict).toMatchObject({
    lost: [],
    unexpected: [],
    half: [],
    regrouped: [],
    badSignatures: 0,
  })
  expect(verdict.accepted).toBeGreaterThan(0)
  expect(verdict.duplicates).toBeLessThanOrEqual(inFlight)
}

/** @throws when it ends by itself instead */
export async function readyOf(child: ChildProcess): Promise<void> {
  const ended = once(child, 'close').then(([code, signal]) => {
    throw new Error(`the process ended by itself with ${code ?? signal}`)
  })
  ended.catch(() => {})
  await Promise.race([once(child.stdout!, 'data'), ended])
}

function report(
  kills: number,
  seed: number,
  inFlight: number,
  recoveriesMs: number[],
  verdict: Verdict,
): void {
  const sorted = recoveriesMs.sort((a, b) => a - b)
  const text = [
    `seed ${seed}`,
    `kills ${kills}`,
    `accepted ${verdict.accepted}`,
    `delivered ${verdict.delivered}`,
    `lost ${verdict.lost.length}`,
    `unexpected ${verdict.unexpected.length}`,
    `duplicates ${verdict.duplicates} of ${inFlight} in flight at the kills`,
    `first request ${Math.round(sorted[sorted.length >> 1] ?? 0)} ms after the process was started (median), ${Math.round(sorted.at(-1) ?? 0)} ms (longest)`,
  ]
  console.log(`kill -9: ${text.join(' · ')}`)
}
