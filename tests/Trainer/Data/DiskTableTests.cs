using FsCheck;
using FsCheck.Fluent;
using Xunit;
using Z1Coder.Trainer.Data.Journal;

namespace Z1Coder.Tests.Trainer.Data;

/// <summary>The table on disk against a dictionary.</summary>
public sealed class DiskTableTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("z1-table-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void It_holds_what_a_dictionary_holds()
    {
        Prop.ForAll(ArbMap.Default.ArbFor<int[]>(), values =>
        {
            using var table = new DiskTable(_folder);
            var oracle = new Dictionary<UInt128, long>();
            foreach (var value in values)
            {
                // few distinct keys, many of them in the same slots, zero among them
                var key = ((UInt128)(uint)(value % 7) << 100) | ((UInt128)(uint)Math.Abs(value % 11) << 12);
                Assert.Equal(oracle.TryAdd(key, Math.Abs((long)value)), table.TryAdd(key, Math.Abs((long)value)));
                Assert.True(table.TryGet(key, out var stored));
                Assert.Equal(oracle[key], stored);
            }

            Assert.Equal(oracle.Count, table.Count);
        }).QuickCheckThrowOnFailure();
    }

    [Fact]
    public void It_grows_and_leaves_no_file()
    {
        const int Keys = 60_000;                    // several times its first size
        using (var table = new DiskTable(_folder))
        {
            for (var i = 0; i < Keys; i++)
            {
                Assert.True(table.TryAdd(Key(i), i));
            }

            for (var i = 0; i < Keys; i++)
            {
                Assert.True(table.TryGet(Key(i), out var value));
                Assert.Equal(i, value);
            }

            Assert.False(table.Contains(Key(Keys)));
            Assert.False(table.TryAdd(Key(3), 9));
            Assert.Equal(Keys, table.Count);
            Assert.Empty(Directory.GetFiles(_folder));
        }
    }

    private static UInt128 Key(long i) => new((ulong)i * 0x9E3779B97F4A7C15, (ulong)i * 0xC2B2AE3D27D4EB4F);
}
