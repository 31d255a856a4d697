using System.Runtime.InteropServices;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Checkpoints;

/// <summary>S shards times R replicas.</summary>
public sealed record World(int Shards, int Replicas)
{
    /// <summary>Every shape that up to four ranks can have: strategy none is S = 1, zero and fsdp are R = 1, hybrid is neither.</summary>
    public static World[] All { get; } = [new(1, 1), new(1, 2), new(2, 1), new(1, 3), new(3, 1), new(1, 4), new(4, 1), new(2, 2)];

    public int Size => Shards * Replicas;

    /// <summary>Ranks of one shard group are neighbours.</summary>
    public (int Shard, int Replica) Place(int rank) => (rank % Shards, rank / Shards);

    public override string ToString() => $"{Shards} x {Replicas}";
}

/// <summary>The state of one rank of a small model, three roles whose every element has bits of its own.</summary>
internal sealed class ShardedState : IDisposable
{
    public static readonly string[] Roles = ["master", "first-moments", "second-moments"];

    public static readonly Qwen2Parameters Parameters = new(new Qwen2Config
    {
        ModelType = "qwen2", HiddenSize = 40, NumHiddenLayers = 1, NumAttentionHeads = 5, NumKeyValueHeads = 1, HeadDim = 8,
        IntermediateSize = 50, VocabSize = 131, MaxPositionEmbeddings = 64, RmsNormEps = 1e-6, RopeTheta = 1e4,
        TieWordEmbeddings = false, AttentionBias = true,
    });

    private static readonly CpuStream s_stream = new(1);

    private (int Role, int Parameter, int Element, int Unit, int Index)[]? _elements;

    public ShardedState(World world, int rank)
    {
        var layout = new ShardLayout(Parameters, world.Shards);
        var (shard, replica) = world.Place(rank);
        Part = new ShardPart(layout, shard, replica, world.Replicas);
        Sets = [.. Roles.Select(r => new ShardRole(r, new ShardSet<float>(r, layout, shard)))];
        foreach (var role in Sets)
        {
            role.Values.Arena.Allocate();
        }
    }

    public ShardPart Part { get; }

    public ShardRole[] Sets { get; }

    public static CpuStream Stream => s_stream;

    /// <summary>Every element, by the layout's own arithmetic: (role, parameter number, element, where it lies here; -1 for another
    /// shard).</summary>
    public IEnumerable<(int Role, int Parameter, int Element, int Unit, int Index)> Elements()
    {
        var layout = Part.Layout;
        for (var role = 0; role < Roles.Length; role++)
        {
            var number = 0;
            for (var block = 0; block < Parameters.Blocks.Count; block++)
            {
                var flat = layout.OffsetOf(block);
                foreach (var part in Parameters.Blocks[block].Parts)
                {
                    for (var i = 0; i < part.Shape.Count; i++, flat++)
                    {
                        var size = layout.ShardElements(layout.UnitOf(block));
                        yield return (role, number, i, layout.UnitOf(block), flat / size == Part.Shard ? flat % size : -1);
                    }

                    number++;
                }
            }
        }
    }

    public ShardedState Fill(int seed)
    {
        _elements ??= [.. Elements().Where(e => e.Index >= 0)];
        foreach (var (role, parameter, element, unit, index) in _elements)
        {
            Sets[role].Values.Units[unit].Span[index] = Value(seed, role, parameter, element);
        }

        return this;
    }

    /// <summary>Elements that differ from what <see cref="Fill"/> writes, to the bit; and padding that is not zero.</summary>
    public int Wrong(int seed)
    {
        var sets = Sets.Select(s => s.Values.Units.ToArray().Select(u => u.Span.ToArray()).ToArray()).ToArray();
        var wrong = 0;
        foreach (var (role, parameter, element, unit, index) in Elements().Where(e => e.Index >= 0))
        {
            wrong += BitConverter.SingleToInt32Bits(sets[role][unit][index]) == BitConverter.SingleToInt32Bits(Value(seed, role, parameter, element)) ? 0 : 1;
            sets[role][unit][index] = 0;
        }

        return wrong + sets.Sum(s => s.Sum(u => MemoryMarshal.Cast<float, int>(u).ToArray().Count(v => v != 0)));
    }

    public CheckpointWriter Writer(CheckpointStore store, ICollective world, bool asynchronous)
    {
        var writer = new CheckpointWriter(store, Part, Sets, world, "tiny", s_stream, asynchronous);
        writer.Allocate();
        return writer;
    }

    public void Load(Checkpoint checkpoint)
    {
        foreach (var role in Sets)
        {
            using var reader = ShardReader.Open(checkpoint, role.Name, Parameters);
            reader.Read(role.Values);
        }
    }

    public void Dispose() => Array.ForEach(Sets, s => s.Values.Dispose());

    private static float Value(int seed, int role, int parameter, int element) =>
        BitConverter.Int32BitsToSingle(0x3000_0000 + unchecked((((((seed * 31) + role) * 131) + parameter) * 65537) + (element * 7)) % 0x0F00_0000);
}
