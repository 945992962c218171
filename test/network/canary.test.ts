/**
 * H1–H6 of the fault list, in a network where every address is this machine: whatever the built
 * package connects to, someone is there to count it.
 */
import path from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { urlVerdicts } from '../security/url-list.ts'
import { runInNamespace, whyNoNamespace } from './namespace.ts'

/** What the program reports of one part: connections to forbidden addresses, and what was meant to. */
interface Part {
  forbidden: string[]
  allowed: number
  tried: number
  outcomes: Record<string, number>
}

interface Report {
  naive: { reached: number; tried: number }
  create: { wrong: string[]; tried: number }
  forced: Part
  answers: Part
  rebinding: Part
  redirects: Part
  opened: Part
}

const everyAddressIsHere = `
ip route add local 0.0.0.0/0 dev lo table local
ip -6 route add local ::/0 dev lo table local
`

const missing = whyNoNamespace()
if (missing !== null) console.log(`skipped: the canary network, because ${missing}`)

describe.skipIf(missing !== null)('the canary network', () => {
  let report: Report

  beforeAll(async () => {
    const program = path.join(import.meta.dirname, 'canary.mjs')
    report = JSON.parse(
      await runInNamespace(everyAddressIsHere, [program, JSON.stringify(urlVerdicts)]),
    )
  }, 120_000)

  it('catches a client without a guard: the trap works', () => {
    const { reached, tried } = report.naive
    expect(tried).toBeGreaterThan(40)
    expect(reached / tried).toBeGreaterThan(0.8)
  })

  it('H1: every URL of the list gets its verdict when an endpoint is created', () => {
    expect(report.create).toEqual({ wrong: [], tried: urlVerdicts.length })
  })

  it('H2: the same URLs, forced into the store, are never connected to', () => {
    const refused = urlVerdicts.filter(({ verdict }) => verdict !== 'allow')
    expect(report.forced.forbidden).toEqual([])
    expect(report.forced.tried).toBe(refused.length)
    // Nothing was lost on the way: each of them was attempted, and each came to an end.
    expect(Object.keys(report.forced.outcomes).sort()).toEqual(['blocked', 'unreachable'])
    // The controls were reached, so that "never" is no accident.
    expect(report.forced.allowed).toBeGreaterThan(0)
  })

  it('H3, H4: names that answer with refused addresses, alone or mixed with public ones', () => {
    expect(report.answers.forbidden).toEqual([])
    expect(report.answers.tried).toBeGreaterThan(100)
    expect(report.answers.outcomes).toEqual({ blocked: report.answers.tried, accepted: 1 })
    expect(report.answers.allowed).toBe(1)
  })

  it('H5: 200 rounds of rebinding', () => {
    const { forbidden, outcomes, tried } = report.rebinding
    expect(forbidden).toEqual([])
    expect(tried).toBe(200)
    // Each round was let in by its public answer, and refused by the next one.
    expect(outcomes).toEqual({ accepted: 200, blocked: 200 })
  })

  it('H6: redirects to each class of address', () => {
    expect(report.redirects.forbidden).toEqual([])
    expect(report.redirects.outcomes).toEqual({ accepted: report.redirects.tried })
    expect(report.redirects.allowed).toBe(report.redirects.tried)
  })

  it('H8: `allowedNetworks` opens exactly what it names', () => {
    expect(report.opened.outcomes).toEqual({ accepted: 2, blocked: 3 })
    expect(report.opened.allowed).toBe(2)
    expect(report.opened.forbidden).toEqual([])
  })
})
