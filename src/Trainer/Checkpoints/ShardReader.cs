using System.Globalization;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// One role of a checkpoint, whoever wrote it: the files of all ranks are opened, their ranges must tile every parameter of the model
/// exactly once, and the elements that a shard needs are read from wherever they lie.
/// </summary>
public sealed class ShardReader : IDisposable
{
    private const int MostNamed = 6;

    private readonly string _where;
    private readonly List<SafetensorsFile> _files = [];
    private readonly Dictionary<string, List<Stored>> _ranges = new(StringComparer.Ordinal);

    private ShardReader(string where) => _where = where;

    /// <summary>Opens the files of a role and checks what they hold against <paramref name="parameters"/>; reads headers only.</summary>
    /// <exception cref="InvalidInputException">a range is missing, there twice or of no parameter, or a header lies; one
    /// sentence</exception>
    public static ShardReader Open(Checkpoint checkpoint, string role, Qwen2Parameters parameters)
    {
        ArgumentNullException.ThrowIfNull(checkpoint);
        ArgumentNullException.ThrowIfNull(parameters);
        var reader = new ShardReader($"{checkpoint.Directory}: the {role} files");
        try
        {
            foreach (var file in checkpoint.Files.Where(f => ShardRole.IsFileOf(role, f.Name)))
            {
                reader.Add(SafetensorsFile.Open(checkpoint.PathOf(file.Name)));
            }

            reader.Check(parameters);
            return reader;
        }
        catch
        {
            reader.Dispose();
            throw;
        }
    }

    /// <summary>Fills a shard of every unit; of the files only its bytes are read. Padding is not touched.</summary>
    public void Read(ShardSet<float> values)
    {
        ArgumentNullException.ThrowIfNull(values);
        foreach (var (parameter, first, tensor) in values.ByName)
        {
            HostPieces.Fill(tensor, (start, piece) => Read(parameter.Name, first + start, piece));
        }
    }

    /// <summary>Elements of a parameter, counted row-major, from <paramref name="start"/> on.</summary>
    public void Read(string parameter, long start, Span<float> destination)
    {
        var stored = _ranges[parameter];
        for (var i = Containing(stored, start); destination.Length > 0; i++)
        {
            var (file, tensor, first, count) = stored[i];
            var length = (int)Math.Min(destination.Length, first + count - start);
            file.Read(tensor, start - first, destination[..length]);
            destination = destination[length..];
            start += length;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _files.ForEach(f => f.Dispose());

    /// <summary>The last range that begins at or before an element.</summary>
    private static int Containing(List<Stored> stored, long element)
    {
        var (low, high) = (0, stored.Count - 1);
        while (low < high)
        {
            var middle = (low + high + 1) / 2;
            (low, high) = stored[middle].First <= element ? (middle, high) : (low, middle - 1);
        }

        return low;
    }

    private void Add(SafetensorsFile file)
    {
        _files.Add(file);
        foreach (var tensor in file.Tensors.Where(t => t.Count > 0))
        {
            var at = tensor.Name.LastIndexOf('@');
            long first = 0;
            if (at >= 0
                && (!long.TryParse(tensor.Name.AsSpan(at + 1), NumberStyles.None, CultureInfo.InvariantCulture, out first) || first > long.MaxValue - tensor.Count))
            {
                throw new InvalidInputException($"{file.FilePath}: tensor {Quoted.Name(tensor.Name)} has no element number after its '@'");
            }

            var name = at < 0 ? tensor.Name : tensor.Name[..at];
            if (!_ranges.TryGetValue(name, out var ranges))
            {
                _ranges.Add(name, ranges = []);
            }

            ranges.Add(new Stored(file, tensor.Name, first, tensor.Count));
        }
    }

    private void Check(Qwen2Parameters parameters)
    {
        var wrong = new List<string>();
        var known = new HashSet<string>(StringComparer.Ordinal);
        foreach (var parameter in parameters.Blocks.SelectMany(b => b.Parts))
        {
            known.Add(parameter.Name);
            if (!_ranges.TryGetValue(parameter.Name, out var stored))
            {
                wrong.Add($"lack {parameter.Name}");
                continue;
            }

            stored.Sort((a, b) => a.First.CompareTo(b.First));
            long next = 0;
            foreach (var range in stored)
            {
                if (range.First > next)
                {
                    wrong.Add($"lack elements {next} to {range.First - 1} of {parameter.Name}");
                }
                else if (range.First < next)
                {
                    wrong.Add($"hold elements {range.First} to {Math.Min(next, range.First + range.Count) - 1} of {parameter.Name} twice");
                }

                next = Math.Max(next, range.First + range.Count);
            }

            if (next != parameter.Shape.Count)
            {
                wrong.Add(next < parameter.Shape.Count
                    ? $"lack elements {next} to {parameter.Shape.Count - 1} of {parameter.Name}"
                    : $"hold {next} elements of {parameter.Name}, which has {parameter.Shape.Count}");
            }
        }

        wrong.AddRange(_ranges.Keys.Where(n => !known.Contains(n)).Order(StringComparer.Ordinal)
            .Select(n => $"hold {Quoted.Name(n)}, which is no parameter of this model"));
        if (wrong.Count > 0)
        {
            var more = wrong.Count > MostNamed ? $" and {wrong.Count - MostNamed} more faults of this kind" : "";
            throw new InvalidInputException($"{_where} {string.Join(", ", wrong.Take(MostNamed))}{more}");
        }
    }

    private readonly record struct Stored(SafetensorsFile File, string Tensor, long First, long Count);
}
