'use strict';
(function () {
  var tip = document.getElementById('tip');
  var current = null;

  function clear() {
    if (current) { current.classList.remove('on'); }
    current = null;
    tip.hidden = true;
  }

  function centre(mark) {
    var box = mark.getBoundingClientRect();
    return { x: box.left + box.width / 2, y: box.top + box.height / 2, box: box };
  }

  // A column or a picture answers where it is touched; a point answers to the nearest touch within reach.
  function nearest(marks, x, y) {
    var best = null;
    var reach = 40;
    marks.forEach(function (mark) {
      var c = centre(mark);
      var far;
      if (mark.classList.contains('z')) {
        var inside = x >= c.box.left ? c.box.right > x : false;
        if (inside) { inside = y >= c.box.top ? c.box.bottom > y : false; }
        far = inside ? 0 : Infinity;
      } else {
        far = Math.hypot(c.x - x, c.y - y);
      }
      if (reach > far) { reach = far; best = mark; }
    });
    return best;
  }

  function show(mark) {
    clear();
    current = mark;
    mark.classList.add('on');
    tip.textContent = mark.getAttribute('data-t');
    tip.hidden = false;
    var c = centre(mark);
    var x = c.x - tip.offsetWidth / 2;
    var y = (mark.classList.contains('z') ? c.box.top : c.y) - tip.offsetHeight - 12;
    if (0 > y - 4) { y = c.box.bottom + 12; }
    tip.style.left = Math.max(6, Math.min(x, document.documentElement.clientWidth - tip.offsetWidth - 6)) + 'px';
    tip.style.top = y + 'px';
  }

  document.querySelectorAll('svg.plot, svg.strip').forEach(function (svg) {
    var marks = Array.from(svg.querySelectorAll('[data-t]'));
    function point(event) {
      var mark = nearest(marks, event.clientX, event.clientY);
      if (mark) { show(mark); } else { clear(); }
    }
    svg.addEventListener('pointermove', point);
    svg.addEventListener('pointerdown', point);
    svg.addEventListener('pointerleave', clear);
  });
  document.addEventListener('scroll', clear, { passive: true });

  // report.html?only#sweep-glance shows that figure alone, to take a picture of.
  var alone = location.search === '?only' ? document.getElementById(location.hash.slice(1)) : null;
  if (alone) {
    document.body.replaceChildren(alone);
    document.body.classList.add('only');
  }

  document.querySelectorAll('.pick').forEach(function (pick) {
    pick.addEventListener('change', function (event) {
      pick.closest('figure').querySelectorAll('[data-e]').forEach(function (row) {
        row.hidden = row.getAttribute('data-e') !== event.target.value;
      });
    });
  });
})();
