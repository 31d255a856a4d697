using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Z1Coder.Trainer.Decode;

namespace Z1Coder.Trainer.Serve;

/// <summary>What /metrics shows, in Prometheus' text format 0.0.4.</summary>
public sealed class ServeMetrics
{
    private readonly ConcurrentDictionary<(string Route, int Status), long> _requests = new();

    /// <summary>Seconds from a sequence's acceptance to its first token.</summary>
    public Histogram FirstToken { get; } = new(
        "z1_time_to_first_token_seconds", "Seconds from acceptance to the first token.", 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100);

    /// <summary>Seconds per later token.</summary>
    public Histogram NextToken { get; } = new(
        "z1_time_per_token_seconds", "Seconds per token after the first.", 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10);

    /// <summary>Counts an answered request; status 499 stands for a client that went away.</summary>
    public void Count(string route, int status) => _requests.AddOrUpdate((route, status), 1, (_, n) => n + 1);

    /// <summary>The whole page.</summary>
    /// <param name="stats">the engine's</param>
    /// <param name="inFlight">requests taken and not answered, read before this call: with none every answer so far is counted</param>
    public string Page(DecodeStats stats, int inFlight)
    {
        ArgumentNullException.ThrowIfNull(stats);
        var text = new StringBuilder("# HELP z1_requests_total Requests answered.\n# TYPE z1_requests_total counter\n");
        foreach (var ((route, status), count) in _requests.OrderBy(r => r.Key))
        {
            text.Append(CultureInfo.InvariantCulture, $"z1_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}\n");
        }

        void Line(string type, string name, string help, long value) =>
            text.Append(CultureInfo.InvariantCulture, $"# HELP {name} {help}\n# TYPE {name} {type}\n{name} {value}\n");

        Line("gauge", "z1_requests_in_flight", "Requests for completions taken and not answered.", inFlight);
        Line("counter", "z1_prompt_tokens_total", "Tokens of prompts admitted.", stats.PromptTokens);
        Line("counter", "z1_cached_tokens_total", "Tokens of prompts found in the cache and not computed.", stats.CachedTokens);
        Line("counter", "z1_new_tokens_total", "Tokens written.", stats.NewTokens);
        Line("counter", "z1_preempted_total", "Sequences put back because pages ran out.", stats.Preempted);
        Line("gauge", "z1_sequences_waiting", "Sequences that wait for a slot or pages.", stats.Waiting);
        Line("gauge", "z1_sequences_active", "Sequences under way.", stats.Active);
        Line("gauge", "z1_pages_used", "Pages of the cache that sequences hold.", stats.PagesUsed);
        Line("gauge", "z1_pages", "Pages of the cache.", stats.Pages);
        FirstToken.Write(text);
        NextToken.Write(text);
        return text.ToString();
    }
}
