using System.Text.Json;

namespace Z1Coder.Trainer.Curation.Teacher;

/// <summary>How the teacher decodes. Part of every record's request.</summary>
public sealed record DecodingParameters
{
    /// <summary>0 is greedy, as the published run decoded.</summary>
    public double Temperature { get; init; }

    /// <summary>Share of the probability that is sampled from.</summary>
    public double TopP { get; init; } = 1;

    /// <summary>Longest answer, tokens.</summary>
    public int MaxTokens { get; init; } = 4096;

    /// <summary>Seed of the server's sampler; null sends none.</summary>
    public long? Seed { get; init; }

    /// <summary>Texts that end an answer.</summary>
    public IReadOnlyList<string> Stop { get; init; } = [];

    /// <summary>The keys of the API, in an order of ours: the same text for the request body and for the record.</summary>
    internal void WriteTo(Utf8JsonWriter json)
    {
        json.WriteNumber("temperature", Temperature);
        json.WriteNumber("top_p", TopP);
        json.WriteNumber("max_tokens", MaxTokens);
        if (Seed is { } seed)
        {
            json.WriteNumber("seed", seed);
        }

        if (Stop.Count > 0)
        {
            json.WriteStartArray("stop");
            foreach (var text in Stop)
            {
                json.WriteStringValue(text);
            }

            json.WriteEndArray();
        }
    }
}
