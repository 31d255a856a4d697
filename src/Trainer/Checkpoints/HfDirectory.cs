using System.Runtime.InteropServices;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Trainer.Checkpoints;

/// <summary>
/// A model directory as Hugging Face lays it out: config.json, model.safetensors or shards with an index, tokenizer files. Opening checks
/// that index and shards agree; tensors are read by name with the shape the model expects.
/// </summary>
public sealed partial class HfDirectory : IDisposable
{
    private const string SingleFile = "model.safetensors", IndexFile = "model.safetensors.index.json";
    private const string Embedding = "model.embed_tokens.weight", Head = "lm_head.weight";

    private readonly List<SafetensorsFile> _files = [];
    private readonly Dictionary<string, SafetensorsFile> _fileOf = new(StringComparer.Ordinal);

    private HfDirectory(string directory, Qwen2Config config)
    {
        FullPath = directory;
        Config = config;
    }

    /// <summary>As given to <see cref="Open"/>.</summary>
    public string FullPath { get; }

    /// <summary>What config.json says.</summary>
    public Qwen2Config Config { get; }

    /// <summary>Names of all tensors.</summary>
    public IReadOnlyCollection<string> Names => _fileOf.Keys;

    /// <summary>Opens a directory for reading.</summary>
    /// <exception cref="InvalidInputException">config, index or a weight file is missing, lies, or does not agree with the others</exception>
    public static HfDirectory Open(string directory)
    {
        if (!Directory.Exists(directory))
        {
            throw new InvalidInputException($"there is no model directory {directory}");
        }

        var model = new HfDirectory(directory, Qwen2Config.Load(directory));
        try
        {
            model.OpenWeights();
            model.CheckVocabulary();
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    /// <summary>Whether there is a tensor of this name.</summary>
    public bool Contains(string name) => _fileOf.ContainsKey(name);

    /// <summary>Dtype and shape of a tensor.</summary>
    public SafetensorInfo this[string name] => FileOf(name)[name];

    /// <summary>A whole tensor as float; see <see cref="SafetensorsFile.Read(string, Span{float})"/>.</summary>
    /// <exception cref="InvalidInputException">missing (the nearest names are listed), or of another shape</exception>
    public void Read(string name, ReadOnlySpan<int> expectedShape, Span<float> destination)
    {
        Expect(name, expectedShape);
        _fileOf[name].Read(name, destination);
    }

    /// <summary>A whole tensor as bfloat16.</summary>
    public void Read(string name, ReadOnlySpan<int> expectedShape, Span<BFloat16> destination)
    {
        Expect(name, expectedShape);
        _fileOf[name].Read(name, destination);
    }

    /// <summary>Part of a tensor, from element <paramref name="start"/> on: what one rank holds of it.</summary>
    public void Read(string name, ReadOnlySpan<int> expectedShape, long start, Span<float> destination)
    {
        Expect(name, expectedShape);
        _fileOf[name].Read(name, start, destination);
    }

    /// <summary>Part of a tensor, from element <paramref name="start"/> on: what one rank holds of it.</summary>
    public void Read(string name, ReadOnlySpan<int> expectedShape, long start, Span<BFloat16> destination)
    {
        Expect(name, expectedShape);
        _fileOf[name].Read(name, start, destination);
    }

    /// <summary>A whole tensor into a view of float or bfloat16, whose shape is the expected one.</summary>
    public void Read<T>(string name, Tensor<T> destination)
        where T : unmanaged
    {
        Span<int> shape = stackalloc int[destination.Shape.Rank];
        for (var axis = 0; axis < shape.Length; axis++)
        {
            shape[axis] = destination.Shape[axis];
        }

        Expect(name, shape);
        ReadRows(_fileOf[name], name, destination);
    }

    /// <inheritdoc/>
    public void Dispose() => _files.ForEach(f => f.Dispose());

    private static void ReadRows<T>(SafetensorsFile file, string name, Tensor<T> destination)
        where T : unmanaged
    {
        HostPieces.Fill(destination, (start, piece) =>
        {
            if (typeof(T) == typeof(float))
            {
                file.Read(name, start, MemoryMarshal.Cast<T, float>(piece));
            }
            else if (typeof(T) == typeof(BFloat16))
            {
                file.Read(name, start, MemoryMarshal.Cast<T, BFloat16>(piece));
            }
            else
            {
                throw new ArgumentException($"tensor '{name}' cannot be read as {typeof(T).Name}", nameof(destination));
            }
        });
    }

    private void OpenWeights()
    {
        var single = Path.Combine(FullPath, SingleFile);
        var index = Path.Combine(FullPath, IndexFile);
        if (File.Exists(single))
        {
            Add(SafetensorsFile.Open(single));
        }
        else if (File.Exists(index))
        {
            OpenShards(index);
        }
        else
        {
            var pickled = Directory.EnumerateFiles(FullPath, "pytorch_model*.bin").Any();
            throw new InvalidInputException(
                $"{FullPath} holds neither {SingleFile} nor {IndexFile}{(pickled ? "; pytorch_model.bin is not read, save the model as safetensors" : "")}");
        }
    }

    private void OpenShards(string index)
    {
        using var document = ConfigKeys.Open(index);
        var map = new ConfigKeys(index, document.RootElement).Child("weight_map")?.AllTexts()
            ?? throw new InvalidInputException($"{index} has no weight_map");
        foreach (var shard in map.Values.Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal))
        {
            if (shard != Path.GetFileName(shard) || shard is "" or "." or "..")
            {
                throw new InvalidInputException($"{index} names {Quoted.Name(shard)}, which is not a file name in the same directory");
            }

            var path = Path.Combine(FullPath, shard);
            if (!File.Exists(path))
            {
                throw new InvalidInputException($"{index} names the shard {Quoted.Name(shard)}, which is not there");
            }

            Add(SafetensorsFile.Open(path));
        }

        foreach (var (name, shard) in map)
        {
            if (!_fileOf.TryGetValue(name, out var file))
            {
                throw new InvalidInputException($"{index} says {Quoted.Name(shard)} holds {Quoted.Name(name)}, but no shard does");
            }

            var actual = Path.GetFileName(file.FilePath);
            if (actual != shard)
            {
                throw new InvalidInputException(
                    $"{index} says {Quoted.Name(shard)} holds {Quoted.Name(name)}, but it is in {Quoted.Name(actual)}");
            }
        }

        foreach (var (name, file) in _fileOf)
        {
            if (!map.ContainsKey(name))
            {
                throw new InvalidInputException($"{file.FilePath} holds {Quoted.Name(name)}, which {IndexFile} does not list");
            }
        }
    }

    private void Add(SafetensorsFile file)
    {
        _files.Add(file);
        foreach (var tensor in file.Tensors)
        {
            if (!_fileOf.TryAdd(tensor.Name, file))
            {
                throw new InvalidInputException(
                    $"{FullPath}: {Quoted.Name(tensor.Name)} is in {Path.GetFileName(_fileOf[tensor.Name].FilePath)} and again in {Path.GetFileName(file.FilePath)}");
            }
        }
    }

    private void CheckVocabulary()
    {
        foreach (var name in (ReadOnlySpan<string>)[Embedding, Head])
        {
            if (_fileOf.TryGetValue(name, out var file) && file[name].Shape is { Count: 2 } shape && shape[0] != Config.VocabSize)
            {
                throw new InvalidInputException(
                    $"{file.FilePath}: {name} has {shape[0]} rows, but vocab_size in config.json is {Config.VocabSize}; they must agree");
            }
        }
    }

    private SafetensorsFile FileOf(string name) => _fileOf.TryGetValue(name, out var file)
        ? file
        : throw new InvalidInputException($"{FullPath} holds no tensor {Quoted.Name(name)}{NearestNames.Phrase(name, _fileOf.Keys)}");

    private void Expect(string name, ReadOnlySpan<int> shape)
    {
        var info = this[name];
        var same = info.Shape.Count == shape.Length;
        for (var axis = 0; same && axis < shape.Length; axis++)
        {
            same = info.Shape[axis] == shape[axis];
        }

        if (!same)
        {
            throw new InvalidInputException(
                $"{_fileOf[name].FilePath}: tensor {Quoted.Name(name)} has the shape {Quoted.Shape(info.Shape)}; config.json asks for {Quoted.Shape(shape.ToArray())}");
        }
    }
}
