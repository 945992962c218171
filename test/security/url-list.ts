/**
 * Verdicts on endpoint URLs with http allowed and no network opened. `refuse`: never written.
 * `no-connect`: may be written, must never be connected to. JSON escapes; `{a*64}` repeats.
 */
const list = String.raw`
# loopback spellings
refuse http://127.0.0.1/
refuse http://127.1/
refuse http://127.255.255.254/
refuse http://2130706433/
refuse http://0x7f.0.0.1/
refuse http://0177.0.0.1/
refuse http://127.0.0.1./
refuse http://%31%32%37%2e%30%2e%30%2e%31/
refuse http://１２７.０.０.１/
refuse http://127．0．0．1/
# unspecified
refuse http://0/
refuse http://0.0.0.0/
refuse http://[::]/
# IPv6 loopback and IPv4 carriers
refuse http://[::1]/
refuse http://[::ffff:127.0.0.1]/
refuse http://[::ffff:7f00:1]/
refuse http://[::127.0.0.1]/
refuse http://[::ffff:0:127.0.0.1]/
refuse http://[64:ff9b::127.0.0.1]/
refuse http://[64:ff9b::a9fe:a9fe]/
refuse http://[64:ff9b:1::7f00:1]/
refuse http://[2002:7f00:1::]/
refuse http://[2001:0:7f00:1::]/
refuse http://[2001::1]/
# IPv6 special
refuse http://[2001:db8::1]/
refuse http://[3fff::1]/
refuse http://[100::1]/
refuse http://[fe80::1]/
refuse http://[fc00::1]/
refuse http://[ff02::1]/
# metadata services
refuse http://169.254.169.254/latest/meta-data/
refuse http://169.254.170.2/v2/credentials/
refuse http://2852039166/
refuse http://0xa9fea9fe/
refuse http://025177524776/
refuse http://[::ffff:169.254.169.254]/
refuse http://[fd00:ec2::254]/latest/meta-data/
refuse http://100.100.100.200/latest/meta-data/
refuse http://168.63.129.16/
refuse http://metadata.google.internal/computeMetadata/v1/
refuse http://metadata/
# private and reserved IPv4
refuse http://10.0.0.1/
refuse http://172.16.0.1/
refuse http://192.168.0.1/
refuse http://0xc0a80001/
refuse http://100.64.0.1/
refuse http://192.0.0.1/
refuse http://192.0.2.1/
refuse http://192.31.196.1/
refuse http://192.88.99.1/
refuse http://198.18.0.1/
refuse http://224.0.0.1/
refuse http://240.0.0.1/
# names
refuse http://localhost/
refuse http://localhost./
refuse http://foo.localhost/
refuse http://ｌｏｃａｌｈｏｓｔ/
refuse http://localhost.localdomain/
refuse http://kubernetes.default.svc/
refuse http://printer.local/
no-connect http://127.0.0.1.nip.io/
refuse http://rebind.test/
refuse http://cname-to-loopback.test/
# parser confusion
refuse http://evil.com@127.0.0.1/
refuse http://user:pass@example.com/
refuse http://example.com#@127.0.0.1/
refuse http://127.0.0.1\\@example.com/
refuse http:/127.0.0.1/
refuse //127.0.0.1/
refuse http://[::1]@example.com/
refuse http:///etc/passwd
refuse http://[127.0.0.1]/
refuse http://[::1%25eth0]/
refuse http://256.0.0.1/
# ports
refuse http://example.com:0/
refuse http://example.com:22/
refuse http://example.com:65536/
allow http://example.com:/
# schemes and sockets
refuse file:///etc/passwd
refuse gopher://127.0.0.1:6379/_INFO
refuse ldap://127.0.0.1/
refuse data:text/plain,hi
refuse unix:/var/run/docker.sock
refuse http+unix://%2Fvar%2Frun%2Fdocker.sock/info
# malformed
refuse http://exa\u0000mple.com/
allow http://example.com/%0d%0aX-Injected:%201
refuse http://example.com/\r\nX-Injected: 1
refuse http://xn--/
refuse http://a..b/
refuse http://{a*64}.com/
# controls (added)
allow https://example.com/hook
allow https://EXAMPLE.com./a?b=c
allow https://hooks.example.com:8443/
allow http://8.8.8.8/
allow http://172.15.255.255/
allow http://[2606:4700:4700::1111]/
allow https://bücher.example.com/
`

export interface Verdict {
  verdict: 'refuse' | 'no-connect' | 'allow'
  url: string
}

export const urlVerdicts: readonly Verdict[] = list
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'))
  .map((line) => {
    const [, verdict = '', text = ''] = /^(\S+) (.*)$/.exec(line) ?? []
    const url = JSON.parse(`"${text}"`) as string
    return {
      verdict: verdict as Verdict['verdict'],
      url: url.replace(/\{(.)\*(\d+)\}/g, (_, character: string, count: string) =>
        character.repeat(Number(count)),
      ),
    }
  })
