namespace Z1Coder.Trainer.Data;

/// <summary>Judges records one after another. An exact duplicate is one whose turns all equal those of an earlier record that was kept.</summary>
public sealed class RecordFilter
{
    private readonly HashSet<UInt128>? _seen;

    /// <summary>A filter that has seen nothing yet.</summary>
    public RecordFilter(bool deduplicate) => _seen = deduplicate ? [] : null;

    /// <summary>Whether to keep the record.</summary>
    public Verdict Judge(SftRecord record)
    {
        ArgumentNullException.ThrowIfNull(record);
        var verdict = record.Messages is { } messages ? JudgeTurns(messages) : JudgePlain(record);
        return verdict.IsKept && _seen is not null && !_seen.Add(ContentHash.Of(record)) ? Verdict.Drop(DropReasons.Duplicate) : verdict;
    }

    private static Verdict JudgePlain(SftRecord record) =>
        string.IsNullOrWhiteSpace(record.Response) ? Verdict.Drop(DropReasons.EmptyResponse)
        : string.IsNullOrWhiteSpace(record.Prompt) && string.IsNullOrWhiteSpace(record.Input) ? Verdict.Drop(DropReasons.EmptyPrompt)
        : Verdict.Keep;

    private static Verdict JudgeTurns(IReadOnlyList<ChatMessage> messages)
    {
        var last = messages.Count - 1;
        while (last >= 0 && !messages[last].IsAssistant)
        {
            last--;
        }

        if (last < 0)
        {
            return Verdict.Drop(DropReasons.NoAssistantTurn);
        }

        if (string.IsNullOrWhiteSpace(messages[last].Content))
        {
            return Verdict.Drop(DropReasons.EmptyResponse);
        }

        for (var i = 0; i < last; i++)
        {
            if (messages[i].Role == "user" && !string.IsNullOrWhiteSpace(messages[i].Content))
            {
                return Verdict.Keep;
            }
        }

        return Verdict.Drop(DropReasons.EmptyPrompt);
    }
}
