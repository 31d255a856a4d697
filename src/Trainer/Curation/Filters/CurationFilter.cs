using System.Buffers;
using System.Text.Json;
using Z1Coder.Trainer.Data.Journal;
using Z1Coder.Trainer.Curation.Teacher;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Curation.Filters;

/// <summary>
/// Copies the records of files that pass every rule, in their order and unchanged (an array's items become lines). Memory is constant in
/// the number of records: what must be remembered of earlier ones stands on disk. The output appears whole, by a rename, or not at all.
/// </summary>
public sealed class CurationFilter
{
    private readonly FilterOptions _options;
    private readonly DataReport _report;

    /// <summary>A filter that counts into <paramref name="report"/>.</summary>
    public CurationFilter(FilterOptions options, DataReport report) => (_options, _report) = (options, report);

    /// <summary>Records that passed.</summary>
    public long Kept { get; private set; }

    /// <summary>Reads the files and writes the output.</summary>
    public void Run(IReadOnlyList<string> files, FieldMap? fields, BrokenLinePolicy broken, string output)
    {
        ArgumentNullException.ThrowIfNull(files);
        var directory = Path.GetDirectoryName(Path.GetFullPath(output))!;
        var draft = output + ".tmp";
        try
        {
            Directory.CreateDirectory(directory);
            using (var file = new FileStream(draft, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 16))
            {
                Copy(files, fields, broken, directory, file);
                file.Flush(flushToDisk: true);
            }

            File.Move(draft, output, overwrite: true);
        }
        catch (Exception e)
        {
            File.Delete(draft);
            if (e is IOException or UnauthorizedAccessException)
            {
                throw new InvalidInputException($"{output} cannot be written ({e.Message.TrimEnd('.')})", e);
            }

            throw;
        }
    }

    private void Copy(IReadOnlyList<string> files, FieldMap? fields, BrokenLinePolicy broken, string directory, FileStream output)
    {
        using var seen = new DiskTable(directory);
        using var near = _options.NearDuplicates > 0 ? new NearDuplicates(directory, _options.NearDuplicates) : null;
        using var keptIds = near is null ? null : new IdFile(directory);
        var shape = new RecordFilter(deduplicate: false);
        var reader = new SftReader(fields, broken, _report);
        foreach (var (json, record) in files.SelectMany(reader.ReadWithJson))
        {
            var problem = Problem.Of(record, withResponse: true);
            var (reason, detail) = Judge(json, record, problem, shape, seen, near, keptIds);
            if (reason is not null)
            {
                _report.Drop(reason, detail.Length == 0 ? record.Id : $"{record.Id}: {detail}");
                continue;
            }

            Kept++;
            output.Write(OneLine(json).Span);
            output.Write("\n"u8);
        }
    }

    private (string? Reason, string Detail) Judge(
        ReadOnlyMemory<byte> json, SftRecord record, Problem problem, RecordFilter shape, DiskTable seen, NearDuplicates? near,
        IdFile? keptIds)
    {
        if (_options.Exact)
        {
            var verdict = shape.Judge(record);
            if (verdict.Reason is { } reason)
            {
                return (reason, "");
            }

            if (!seen.TryAdd(ContentHash.Of(record)))
            {
                return (DropReasons.Duplicate, "");
            }
        }

        var answer = problem.Response;
        var blocks = CodeBlocks.Of(answer);
        if (_options.Unfinished && Cut(json, answer, blocks) is { } cut)
        {
            return (FilterReasons.Unfinished, cut);
        }

        if (_options.EndToken is { } end && !answer.AsSpan().TrimEnd().EndsWith(end, StringComparison.Ordinal))
        {
            return (FilterReasons.NoEndToken, "");
        }

        if (_options.CodeBlock && !blocks.Any)
        {
            return (FilterReasons.NoCodeBlock, "");
        }

        if (_options.Python && !blocks.Python)
        {
            return (FilterReasons.NotPython, "");
        }

        if (answer.Length < _options.LeastCharacters || answer.Length > _options.MostCharacters)
        {
            return (answer.Length < _options.LeastCharacters ? FilterReasons.TooShort : FilterReasons.TooLong,
                $"{answer.Length} characters");
        }

        var whole = string.Join("\n", record.ToMessages().Select(m => m.Content));
        if (_options.CountTokens is { } count && count(whole) is var tokens && tokens > _options.MostTokens)
        {
            return (FilterReasons.TooManyTokens, $"{tokens} tokens");
        }

        if (_options.Benchmarks?.Find(whole) is { } match)
        {
            return (FilterReasons.Contaminated, $"{match.Task} ({match.Field}): \"{match.Words}\"");
        }

        if (near is not null)
        {
            var of = near.Add(problem.Text.Length > 0 ? problem.Text : whole);
            if (of >= 0)
            {
                return (FilterReasons.NearDuplicate, $"resembles {keptIds!.Read(of)}");
            }

            keptIds!.Add(record.Id);
        }

        return (null, "");
    }

    /// <summary>How an answer shows that it was cut, or null.</summary>
    private static string? Cut(ReadOnlyMemory<byte> json, string answer, CodeBlocks blocks)
    {
        using var document = JsonDocument.Parse(json);
        return document.RootElement.TryGetProperty("finish_reason", out var reason) && reason.ValueEquals("length") ? "finish_reason length"
            : answer.LastIndexOf("<think>", StringComparison.Ordinal) > answer.LastIndexOf("</think>", StringComparison.Ordinal)
                ? "<think> without </think>"
            : blocks.Unclosed ? "a code fence without its end" : null;
    }

    private static ReadOnlyMemory<byte> OneLine(ReadOnlyMemory<byte> json)
    {
        if (!json.Span.ContainsAny("\r\n"u8))
        {
            return json;
        }

        var buffer = new ArrayBufferWriter<byte>(json.Length);
        using var document = JsonDocument.Parse(json);
        using (var writer = new Utf8JsonWriter(buffer, TeacherJson.Plain))
        {
            document.WriteTo(writer);
        }

        return buffer.WrittenMemory;
    }

    /// <summary>The ids of the texts kept, by number, on disk: only for the report's sentences.</summary>
    private sealed class IdFile(string directory) : IDisposable
    {
        private const int IdBytes = 192;

        private readonly Microsoft.Win32.SafeHandles.SafeFileHandle _file = DiskTable.Nameless(directory);
        private long _count;

        public void Add(string id)
        {
            Span<byte> bytes = stackalloc byte[IdBytes];
            System.Text.Encoding.UTF8.TryGetBytes(id.AsSpan(0, Math.Min(id.Length, IdBytes / 3)), bytes, out _);
            RandomAccess.Write(_file, bytes, IdBytes * _count++);
        }

        public string Read(long number)
        {
            Span<byte> bytes = stackalloc byte[IdBytes];
            RandomAccess.Read(_file, bytes, IdBytes * number);
            return System.Text.Encoding.UTF8.GetString(bytes).TrimEnd('\0');
        }

        public void Dispose() => _file.Dispose();
    }
}
