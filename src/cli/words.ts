/** Labels of the live table and of summaries, in the languages of the people who read them. */

export type Language = 'en' | 'ko'

const en = {
  event: 'EVENT',
  id: 'EVENT ID',
  endpoint: 'ENDPOINT',
  attempt: 'TRY',
  status: 'STATUS',
  latency: 'LATENCY',
  next: 'NEXT',
  signature: 'SIGNATURE',
  batch: (events: number) => `batch of ${events}`,
  inTime: (time: string) => `in ${time}`,
  now: 'now',
  done: 'delivered',
  givenUp: 'given up',
  verdicts: { valid: 'valid', invalid: 'INVALID', unsigned: 'unsigned', unknown: 'unknown' },
  statistics: 'statistics of this data file',
  delivered: 'DELIVERED',
  failed: 'FAILED',
  success: 'SUCCESS',
  average: 'AVERAGE',
  attempts: 'ATTEMPTS',
  all: 'all',
  data: 'data',
  inbox: 'inbox',
  retries: 'retries',
  keys: 'Enter: 20 more events · a line of JSON: your own · Ctrl-C: end',
  allSettled: 'Everything is settled.',
  waiting: (count: string) => `${count} waiting`,
  goesOn: (count: string) => `${count} waiting; the next start goes on with them.`,
  sum: {
    accepted: 'accepted',
    duplicates: 'duplicates',
    badLines: 'bad lines',
    delivered: 'delivered',
    failed: 'failed',
    failedEarlier: 'failed earlier',
    cancelled: 'cancelled',
    waiting: 'waiting',
    retries: 'retries',
    rate: 'rate',
    latency: 'latency',
  },
}

export type Words = typeof en

const ko: Words = {
  event: '이벤트',
  id: '이벤트 ID',
  endpoint: '엔드포인트',
  attempt: '시도',
  status: '상태',
  latency: '지연',
  next: '다음 시도',
  signature: '서명',
  batch: (events) => `배치 ${events}건`,
  inTime: (time) => `${time} 후`,
  now: '지금',
  done: '전달됨',
  givenUp: '포기함',
  verdicts: { valid: '유효', invalid: '무효', unsigned: '서명 없음', unknown: '알 수 없음' },
  statistics: '이 데이터 파일의 통계',
  delivered: '성공',
  failed: '실패',
  success: '성공률',
  average: '평균',
  attempts: '시도 수',
  all: '전체',
  data: '데이터',
  inbox: '수신함',
  retries: '재시도',
  keys: 'Enter: 이벤트 20건 더 · JSON 한 줄: 직접 보내기 · Ctrl-C: 끝내기',
  allSettled: '모든 전송이 끝났습니다.',
  waiting: (count) => `${count}건 대기`,
  goesOn: (count) => `${count}건 대기 중이며, 다음에 시작하면 이어서 보냅니다.`,
  sum: {
    accepted: '접수',
    duplicates: '중복',
    badLines: '잘못된 줄',
    delivered: '전달',
    failed: '실패',
    failedEarlier: '이전 실패',
    cancelled: '취소',
    waiting: '대기',
    retries: '재시도',
    rate: '속도',
    latency: '지연',
  },
}

export const wordsOf: Readonly<Record<Language, Words>> = { en, ko }

/** From the environment, as every Unix program reads it. */
export function languageOf(env: Readonly<Record<string, string | undefined>>): Language {
  const locale = env.LC_ALL || env.LC_MESSAGES || env.LANG || ''
  return /^ko\b|^ko_/.test(locale) ? 'ko' : 'en'
}
