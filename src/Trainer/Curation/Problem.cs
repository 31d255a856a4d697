using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation;

/// <summary>One item of an input file: what is asked, and what the file answers.</summary>
/// <param name="Key">128 bits of SHA-256 over the text, and over the answer where that is part of the request.</param>
/// <param name="Id">The record's own id, or file and line.</param>
/// <param name="Text">The instruction with its input; empty when the record is no single question.</param>
/// <param name="Response">The answer in the file; empty where there is none.</param>
public sealed record Problem(UInt128 Key, string Id, string Text, string Response)
{
    /// <summary>The problems of the files, in their order; memory holds one at a time.</summary>
    /// <param name="files">JSON or JSONL, plain or gzip</param>
    /// <param name="fields">which keys hold what; null finds out</param>
    /// <param name="broken">what to do with a line that cannot be read</param>
    /// <param name="report">counts records and broken lines</param>
    /// <param name="withResponse">whether the answer in the file is part of the request, and so of the key</param>
    public static IEnumerable<Problem> Read(
        IReadOnlyList<string> files, FieldMap? fields, BrokenLinePolicy broken, DataReport report, bool withResponse)
    {
        ArgumentNullException.ThrowIfNull(files);
        var reader = new SftReader(fields, broken, report, needsResponse: withResponse);
        foreach (var record in files.SelectMany(reader.Read))
        {
            yield return Of(record, withResponse);
        }
    }

    /// <summary>The question and the last answer of a record. A conversation of several user turns is no single question: its text is
    /// empty.</summary>
    public static Problem Of(SftRecord record, bool withResponse)
    {
        ArgumentNullException.ThrowIfNull(record);
        var turns = record.ToMessages();
        var users = turns.Where(t => t.Role == "user").ToList();
        var text = users.Count == 1 ? users[0].Content.Trim() : "";
        var response = turns.LastOrDefault(t => t.IsAssistant)?.Content ?? "";
        var key = text.Length == 0 ? ContentHash.Of(record) : ContentHash.Of(new SftRecord("", text, "", withResponse ? response : ""));
        return new Problem(key, record.Id, text, response);
    }
}
