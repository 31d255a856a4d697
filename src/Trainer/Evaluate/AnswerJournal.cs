using System.Globalization;
using System.Text;
using System.Text.Json;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Data.Journal;

namespace Z1Coder.Trainer.Evaluate;

/// <summary>
/// The answers of a model on disk: each is durable when it is finished (<see cref="ItemJournal"/>), so a kill loses what was being
/// written. When all are there the file is put into the order of the tasks: it then has the same bytes however often it was interrupted.
/// </summary>
internal sealed class AnswerJournal : IDisposable
{
    private readonly string _path;
    private readonly ItemJournal _items;
    private readonly Dictionary<UInt128, AnswerRequest> _wanted;
    private readonly Dictionary<UInt128, Answer> _found = [];

    /// <summary>Opens the file, or makes it.</summary>
    /// <param name="path">the file</param>
    /// <param name="fingerprint">of model, template, decoding and benchmark</param>
    /// <param name="allowChanged">whether answers of another fingerprint count</param>
    /// <param name="requests">every answer that is wanted</param>
    /// <exception cref="InvalidInputException">It holds answers that were asked for in another way, one answer twice, or something
    /// else.</exception>
    internal AnswerJournal(string path, Fingerprint fingerprint, bool allowChanged, IReadOnlyList<AnswerRequest> requests)
    {
        _path = path;
        _wanted = requests.ToDictionary(r => r.Key);
        var seen = new HashSet<UInt128>();
        _items = new ItemJournal(path, fingerprint, allowChanged, (line, key, record) =>
        {
            if (!seen.Add(key))
            {
                throw new InvalidInputException($"{path} line {line} holds an answer for the second time; take one of the two out.");
            }

            if (_wanted.TryGetValue(key, out var request))
            {
                _found.Add(key, Read($"{path} line {line}", request, record));
            }
        });
    }

    /// <summary>The answer of an earlier run; null when there is none.</summary>
    internal Answer? Find(AnswerRequest request) => _found.GetValueOrDefault(request.Key);

    /// <summary>Appends and returns when it is on the medium.</summary>
    internal Task AppendAsync(AnswerRequest request, Answer answer) =>
        _items.AppendAsync(request.Key, Verdict.Keep, json => answer.Write(json, request));

    /// <summary>Closes the file.</summary>
    public void Dispose() => _items.Dispose();

    /// <summary>Writes the file anew in the order of the answers; lines that nobody wants now come after them in their own order. Closed
    /// before.</summary>
    internal void PutInOrder()
    {
        var lines = File.ReadAllLines(_path, Encoding.UTF8);
        var places = lines
            .Select((line, i) => (Line: line, Place: _wanted.GetValueOrDefault(KeyOf(line))?.Position ?? _wanted.Count + i)).ToList();
        if (places.Zip(places.Skip(1)).All(p => p.First.Place < p.Second.Place))
        {
            return;
        }

        using (var file = new FileStream(_path + ".partial", FileMode.Create))
        {
            using (var writer = new StreamWriter(file, leaveOpen: true) { NewLine = "\n" })
            {
                foreach (var (line, _) in places.OrderBy(p => p.Place))
                {
                    writer.WriteLine(line);
                }
            }

            file.Flush(flushToDisk: true);
        }

        File.Move(_path + ".partial", _path, overwrite: true);
    }

    private static UInt128 KeyOf(string line) =>
        UInt128.Parse(line.AsSpan(JournalFile.LineStart.Length, 32), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);

    private static Answer Read(string where, AnswerRequest request, ReadOnlyMemory<byte> record)
    {
        try
        {
            using var json = JsonDocument.Parse(record);
            var row = json.RootElement;
            var text = JsonRows.Text(where, row, "completion", required: true)!;
            var finish = JsonRows.Text(where, row, "finish", required: true)!;
            return row.TryGetProperty("tokens", out var tokens) && tokens.ValueKind == JsonValueKind.Number
                && tokens.TryGetInt32(out var count)
                ? new Answer(request.Task.TaskId, request.Sample, text, finish, count)
                : throw new InvalidInputException($"{where}: the field \"tokens\" is missing or not a whole number.");
        }
        catch (JsonException e)
        {
            throw new InvalidInputException($"{where} is damaged: {e.Message}", e);
        }
    }
}
