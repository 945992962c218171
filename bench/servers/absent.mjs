/** Thrown when a contender cannot run on this machine; the bench prints the reason and goes on. */
export class Absent extends Error {}
