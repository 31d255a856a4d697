using System.Buffers;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// Finished outcomes on disk, one line each as it ends, found again by a hash of everything that decides them. A process that is killed loses what was
/// running; a last line that was cut short is dropped.
/// </summary>
internal sealed class OutcomeJournal : IDisposable
{
    private readonly Dictionary<string, JournalEntry> _known = new(StringComparer.Ordinal);
    private readonly StreamWriter _file;

    private OutcomeJournal(string path, FileStream file)
    {
        var bytes = new byte[file.Length];
        file.ReadExactly(bytes);
        var whole = Array.LastIndexOf(bytes, (byte)'\n') + 1;
        var number = 0;
        foreach (var line in Encoding.UTF8.GetString(bytes, 0, whole).Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            number++;
            try
            {
                using var row = JsonDocument.Parse(line);
                var fields = row.RootElement;
                var outcome = Enum.Parse<SandboxOutcome>(fields.GetProperty("outcome").GetString()!);
                _known[fields.GetProperty("key").GetString()!] =
                    new JournalEntry(outcome, fields.GetProperty("seconds").GetDouble(), fields.GetProperty("needs").GetString());
            }
            catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or ArgumentException or FormatException)
            {
                throw new InvalidInputException($"{path}:{number} is not an outcome of an earlier run; remove the file to grade again.", e);
            }
        }

        file.SetLength(whole);
        file.Position = whole;
        _file = new StreamWriter(file) { AutoFlush = true, NewLine = "\n" };
    }

    internal static OutcomeJournal Open(string path)
    {
        try
        {
            return new OutcomeJournal(path, new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.Read));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InvalidInputException($"{path} cannot be written: {e.Message}", e);
        }
    }

    /// <summary>A hash of these texts, in which none can be mistaken for its neighbour.</summary>
    internal static string KeyOf(params IEnumerable<string> parts)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var part in parts)
        {
            var bytes = ArrayPool<byte>.Shared.Rent(Encoding.UTF8.GetByteCount(part));
            var count = Encoding.UTF8.GetBytes(part, bytes);
            hash.AppendData(BitConverter.GetBytes(count));
            hash.AppendData(bytes, 0, count);
            ArrayPool<byte>.Shared.Return(bytes);
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    internal JournalEntry? Find(string key) => _known.GetValueOrDefault(key);

    internal void Add(string key, JournalEntry entry)
    {
        var line = JsonLine.Of(json =>
        {
            json.WriteString("key", key);
            json.WriteString("outcome", entry.Outcome.ToString());
            json.WriteNumber("seconds", Math.Round(entry.Seconds, 4));
            json.WriteString("needs", entry.Needs);
        });
        lock (_known)
        {
            _known[key] = entry;
            _file.WriteLine(line);
        }
    }

    public void Dispose() => _file.Dispose();
}
