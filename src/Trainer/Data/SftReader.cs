using System.IO.Compression;

namespace Z1Coder.Trainer.Data;

/// <summary>
/// Files to records: a JSON array, or one JSON object per line, plain or gzip. What a file is, is read from its content, never from its
/// name. Records come as the file is read; memory holds one item at a time.
/// </summary>
public sealed class SftReader
{
    private readonly FieldMap? _fields;
    private readonly BrokenLinePolicy _policy;
    private readonly DataReport _report;
    private readonly bool _needsResponse;

    /// <summary>A reader that counts into <paramref name="report"/>; without a map each file's own keys decide.</summary>
    /// <param name="fields">which keys hold what, or null</param>
    /// <param name="policy">what to do with a line that cannot be read</param>
    /// <param name="report">counts records and broken lines</param>
    /// <param name="needsResponse">false reads problems too: where there is no response it is empty</param>
    public SftReader(FieldMap? fields, BrokenLinePolicy policy, DataReport report, bool needsResponse = true)
    {
        ArgumentNullException.ThrowIfNull(report);
        fields?.Validate(needsResponse);
        (_fields, _policy, _report, _needsResponse) = (fields, policy, report, needsResponse);
    }

    /// <summary>The records of one file, in its order. A damaged container (gzip, or the array's own commas and brackets) always
    /// stops.</summary>
    public IEnumerable<SftRecord> Read(string path) => ReadWithJson(path).Select(item => item.Record);

    /// <summary>The records of an unpacked stream; <paramref name="name"/> is what errors call it.</summary>
    public IEnumerable<SftRecord> Read(Stream stream, string name) => ReadWithJson(stream, name).Select(item => item.Record);

    /// <summary>As <see cref="Read(string)"/>, each record with the JSON object that it was read from, valid until the next one.</summary>
    public IEnumerable<(ReadOnlyMemory<byte> Json, SftRecord Record)> ReadWithJson(string path)
    {
        using var file = Open(path);
        var gzip = IsGzip(file, path);
        using var stream = gzip ? new GZipStream(file, CompressionMode.Decompress) : (Stream)file;
        foreach (var item in ReadWithJson(stream, path))
        {
            yield return item;
        }
    }

    private IEnumerable<(ReadOnlyMemory<byte> Json, SftRecord Record)> ReadWithJson(Stream stream, string name)
    {
        var source = new JsonItems(stream, name);
        var fileName = Path.GetFileName(name);
        var map = _fields;
        while (source.Next(out var item))
        {
            _report.Records++;
            if (RecordParser.TryParse(source, item, fileName, _needsResponse, ref map, out var record, out var error))
            {
                yield return (item, record);
            }
            else if (_policy == BrokenLinePolicy.Stop)
            {
                throw new InvalidInputException($"{source.Place}: {error}");
            }
            else
            {
                _report.Drop(DropReasons.BrokenLine, $"{source.Place}: {error}");
            }
        }
    }

    private static FileStream Open(string path)
    {
        try
        {
            return new FileStream(path, new FileStreamOptions { Options = FileOptions.SequentialScan, BufferSize = 0 });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException(
                Directory.Exists(path) ? $"{path} is a directory; name its files" : $"{path} cannot be opened ({e.Message.TrimEnd('.')})",
                e);
        }
    }

    private static bool IsGzip(FileStream file, string path)
    {
        if (!file.CanSeek)
        {
            throw new InvalidInputException($"{path} is a pipe; write it to a file first");
        }

        Span<byte> magic = stackalloc byte[2];
        var isGzip = file.ReadAtLeast(magic, 2, throwOnEndOfStream: false) == 2 && magic is [0x1F, 0x8B];
        file.Position = 0;
        return isGzip;
    }
}
