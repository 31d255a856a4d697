using Xunit;
using Z1Coder.Kernels;
using Z1Coder.Runtime;

namespace Z1Coder.Tests.Kernels;

/// <summary>What every launch of the element-wise families promises on a device: no managed memory once warm, and a place in a graph.</summary>
[Collection("hostcuda")]
public sealed class CudaLaunchTests
{
    private const int Rows = 9, Columns = 64, Vocabulary = 72;

    [Fact]
    public void Launches_allocate_no_managed_memory()
    {
        using var bench = new KernelBench("hostcuda");
        using var step = new Step(bench);
        for (var i = 0; i < 3; i++)
        {
            step.Enqueue();
            _ = step.Norm();
        }

        var before = GC.GetAllocatedBytesForCurrentThread();
        for (var i = 0; i < 5; i++)
        {
            step.Enqueue();
            _ = step.Norm();
        }

        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
    }

    [Fact]
    public void A_captured_step_gives_the_bits_of_a_direct_one_at_each_replay()
    {
        using var bench = new KernelBench("hostcuda");
        using var direct = new Step(bench);
        using var replayed = new Step(bench);
        var stream = (CudaStream)bench.Stream;
        replayed.Enqueue();                             // kernels are loaded and scratch is there before the capture
        replayed.Reset();
        using var graph = stream.Capture(replayed.Enqueue);
        for (var i = 0; i < 3; i++)
        {
            direct.Enqueue();
            stream.Launch(graph);
            var (expected, actual) = (direct.Outputs(), replayed.Outputs());
            for (var output = 0; output < expected.Length; output++)
            {
                Assert.True(expected[output].AsSpan().SequenceEqual(actual[output]), $"output {output} differs at replay {i}");
            }
        }
    }

    /// <summary>One of each: lookup, norm, rotation, gate, loss, their gradients, and the optimizer.</summary>
    private sealed class Step : IDisposable
    {
        private readonly KernelBench _bench;
        private readonly Arena _arena;
        private readonly RopeTable _table;
        private readonly Tensor<int> _tokens, _positions, _targets, _next;
        private readonly Tensor<BFloat16> _weight, _scale, _x, _y, _sum, _qkv, _gateUp, _act, _logits, _compute;
        private readonly Tensor<float> _rstd, _losses, _dscale, _dweight, _dbias, _master, _m, _v;

        public Step(KernelBench bench)
        {
            _bench = bench;
            _arena = bench.Stream.CreateArena("rope");
            _table = new RopeTable(_arena, Rows, 16, 1e4);
            _arena.Allocate();
            _table.Fill();
            using (var generator = new KernelBench())           // its counter starts anew, so that two steps hold equal values
            {
                _tokens = bench.Put(generator.Ints(3, 1, 3, 0, 7, 7, 7, 2, 3));
                _positions = bench.Put(generator.Ints(0, 1, 2, 3, 4, 0, 1, 2, 3));
                _targets = bench.Put(generator.Ints(5, -100, 71, 0, 3, 2, -100, 1, 9));
                _weight = bench.Put(generator.Input<BFloat16>(new Shape(8, Columns)));
                _scale = bench.Put(generator.Input<BFloat16>(new Shape(Columns)));
                _gateUp = bench.Put(generator.Input<BFloat16>(new Shape(Rows, 2 * Columns)));
                _logits = bench.Put(generator.Input<BFloat16>(new Shape(Rows, Vocabulary), 4));
                _master = bench.Put(generator.Input<float>(new Shape(8, Columns)));
                _x = bench.Put(generator.Output<BFloat16>(new Shape(Rows, Columns)));
                _y = bench.Put(generator.Output<BFloat16>(_x.Shape));
                _sum = bench.Put(generator.Output<BFloat16>(_x.Shape));
                _qkv = bench.Put(generator.Output<BFloat16>(_x.Shape));
                _act = bench.Put(generator.Output<BFloat16>(_x.Shape));
                _compute = bench.Put(generator.Output<BFloat16>(_weight.Shape));
                _rstd = bench.Put(generator.Output<float>(new Shape(Rows)));
                _losses = bench.Put(generator.Output<float>(new Shape(Rows)));
                _dscale = bench.Put(generator.Output<float>(new Shape(Columns)));
                _dbias = bench.Put(generator.Output<float>(new Shape(Columns)));
                _dweight = bench.Put(generator.Output<float>(_weight.Shape));
                _m = bench.Put(generator.Allocate<float>(_weight.Shape));
                _v = bench.Put(generator.Allocate<float>(_weight.Shape));
                _next = bench.Put(generator.Ints(new int[Rows]));
                bench.Stream.Synchronize();
            }
        }

        public void Enqueue()
        {
            var stream = _bench.Stream;
            Embedding.Forward(stream, _tokens, _weight, _x);
            RmsNorm.ForwardResidual(stream, _x, _x, _scale, _sum, _y, _rstd, 1e-6f);
            TensorCopy.Copy(stream, _y, _qkv);
            Rope.Forward(stream, _qkv, _positions, _table, 3, 16);
            SwiGlu.Forward(stream, _gateUp, _act);
            Argmax.Forward(stream, _logits, _next);
            CrossEntropy.Rows(stream, _logits, _targets, _losses, 0.5f);
            SwiGlu.Backward(stream, _act, _gateUp, _gateUp);
            Rope.Backward(stream, _qkv, _positions, _table, 3, 16);
            Matmul.BackwardBias(stream, _qkv, _dbias, accumulate: false);
            RmsNorm.Backward(stream, _qkv, _sum, _scale, _rstd, default, _qkv, _dscale, accumulate: false);
            Embedding.Backward(stream, _tokens, _qkv, _dweight, accumulate: false);
            AdamW.Step(stream, _dweight, _master, _m, _v, _compute, new AdamWOptions(1e-3, StochasticRounding: 5), 1, 1f);
            Cast.Widen(stream, _compute, _dweight);
        }

        public double Norm() => GlobalNorm.SumOfSquares(_bench.Stream, _dweight, _dscale, _dbias);

        public byte[][] Outputs() =>
        [
            _bench.Bits(_y), _bench.Bits(_qkv), _bench.Bits(_gateUp), _bench.Bits(_logits), _bench.Bits(_losses), _bench.Bits(_next),
            _bench.Bits(_dscale), _bench.Bits(_dbias), _bench.Bits(_dweight), _bench.Bits(_master), _bench.Bits(_m), _bench.Bits(_v), _bench.Bits(_compute),
        ];

        /// <summary>Puts back what <see cref="Enqueue"/> reads and overwrites.</summary>
        public void Reset()
        {
            using var generator = new KernelBench();
            _ = generator.Input<BFloat16>(_weight.Shape);
            _ = generator.Input<BFloat16>(_scale.Shape);
            TensorCopy.Upload(_bench.Stream, generator.Input<BFloat16>(_gateUp.Shape).Span, _gateUp);
            TensorCopy.Upload(_bench.Stream, generator.Input<BFloat16>(_logits.Shape, 4).Span, _logits);
            TensorCopy.Upload(_bench.Stream, generator.Input<float>(_master.Shape).Span, _master);
            Zero.Fill(_bench.Stream, _m);
            Zero.Fill(_bench.Stream, _v);
        }

        public void Dispose()
        {
            _bench.Stream.Synchronize();
            _arena.Dispose();
        }
    }
}
