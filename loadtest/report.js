// k6's summary as two files, <REPORT>.json (all of it) and <REPORT>.md (what a person reads).

export function writeReport(script, data) {
  const markdown = render(script, data)
  const files = { stdout: `\n${markdown}\n` }
  if (__ENV.REPORT) {
    files[`${__ENV.REPORT}.json`] = JSON.stringify(data, null, 2)
    files[`${__ENV.REPORT}.md`] = markdown
  }
  return files
}

function render(script, { metrics, state }) {
  const trends = [
    ['answer, ms', metrics['http_req_duration{kind:chat}']],
    ['first event of a stream, ms', metrics.first_event_ms],
    ['tokens a second, each stream', metrics.stream_tokens_per_second],
    ['chunks of a stream', metrics.stream_chunks],
  ].filter(([, metric]) => metric !== undefined)
  const count = (name) => metrics[name]?.values.count ?? 0
  const { passes = 0, fails = 0 } = metrics.checks?.values ?? {}
  const seconds = state.testRunDurationMs / 1000
  const tokens = count('completion_tokens')
  return [
    `# ${script}: rate ${__ENV.RATE || 2}/s for ${__ENV.DURATION || '20s'}`,
    '',
    `${count('iterations')} requests in ${seconds.toFixed(1)} s, ${count('dropped_iterations')} dropped; ` +
      `checks ${passes} passed, ${fails} failed; ${tokens} tokens, ${(tokens / seconds).toFixed(1)}/s in all`,
    '',
    '| | median | p90 | p95 | max |',
    '| --- | --- | --- | --- | --- |',
    ...trends.map(([name, { values }]) => {
      const cells = ['med', 'p(90)', 'p(95)', 'max'].map((key) => values[key].toFixed(1))
      return `| ${[name, ...cells].join(' | ')} |`
    }),
    '',
    '| threshold | held |',
    '| --- | --- |',
    ...Object.entries(metrics).flatMap(([name, metric]) =>
      Object.entries(metric.thresholds ?? {}).map(
        ([rule, { ok }]) => `| ${name} ${rule} | ${ok ? 'yes' : 'NO'} |`,
      ),
    ),
    '',
  ].join('\n')
}
