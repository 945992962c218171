/**
 * Text measured in terminal cells: East Asian wide characters take two, combining ones none. It
 * also makes foreign text harmless: what an event or a receiver says must not move the cursor.
 */

/** Inclusive ranges of code points that take two cells (Unicode East Asian Width W and F). */
const wideRanges: readonly (readonly [number, number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0x33ff],
  [0x3400, 0x4dbf],
  [0x4e00, 0x9fff],
  [0xa000, 0xa4cf],
  [0xa960, 0xa97f],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe30, 0xfe6f],
  [0xff00, 0xff60],
  [0xffe0, 0xffe6],
  [0x1f300, 0x1f64f],
  [0x1f680, 0x1f6ff],
  [0x1f900, 0x1f9ff],
  [0x20000, 0x3fffd],
]

/** Marks on the character before, vowels and finals of a decomposed Hangul syllable, joiners. */
const noWidth = /^[\p{M}\u1160-\u11ff\u200b-\u200f\u2060\ufeff]$/u
const printableAscii = /^[\x20-\x7e]*$/
const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' })

export function displayWidth(text: string): number {
  if (printableAscii.test(text)) return text.length
  let width = 0
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment)
  return width
}

/** Cuts from the end, marking the cut with `…`, so that at most `width` cells are taken. */
export function truncate(text: string, width: number): string {
  if (displayWidth(text) <= width) return text
  if (width <= 0) return ''
  let kept = ''
  let used = 0
  for (const { segment } of graphemes.segment(text)) {
    const next = graphemeWidth(segment)
    if (used + next > width - 1) break
    kept += segment
    used += next
  }
  return `${kept}…`
}

/** Exactly `width` cells. */
export function pad(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const cut = truncate(text, width)
  const space = ' '.repeat(width - displayWidth(cut))
  return align === 'left' ? cut + space : space + cut
}

/** Control characters, escape sequences among them, and what reverses the direction of writing. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\u2028-\u202e\u2066-\u2069]/gu, '�')
}

function graphemeWidth(grapheme: string): number {
  let width = 0
  for (const character of grapheme) width = Math.max(width, characterWidth(character))
  // A symbol followed by the emoji selector is drawn as an emoji.
  return grapheme.includes('\ufe0f') ? 2 : width
}

function characterWidth(character: string): number {
  const code = character.codePointAt(0) ?? 0
  if (code < 0x300) return 1
  if (noWidth.test(character)) return 0
  return wideRanges.some(([first, last]) => code >= first && code <= last) ? 2 : 1
}
